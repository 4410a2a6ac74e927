"""Which candidate of each remedy is best for each loss, by model: what `python -m figures.tune_remedies` writes.

Where there is nothing, the third candidate is taken.
"""

TUNED: dict[str, dict[str, list[int]]] = {}
