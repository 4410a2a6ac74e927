"""Which candidate of each remedy is best for each loss, by model: what `python -m figures.tune_remedies` wrote."""

TUNED: dict[str, dict[str, list[int]]] = {}
