"""Pairs of a Hugging Face language model in torch: their Gram entries without gradients (extra `torch`)."""

from toymodel.huggingface.grams import TokenPair, measure_pairs, pair_logps

__all__ = ["TokenPair", "measure_pairs", "pair_logps"]


def __dir__() -> list[str]:
    return __all__
