"""Gram entries of pairs for a Hugging Face language model in torch, without building gradients (extra `torch`)."""

from toymodel._texts import TokenPair
from toymodel.huggingface.grams import measure_pairs, pair_logps
from toymodel.huggingface.pairs import load_model, read_pairs

__all__ = ["TokenPair", "load_model", "measure_pairs", "pair_logps", "read_pairs"]


def __dir__() -> list[str]:
    return __all__
