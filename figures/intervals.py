"""Intervals of what is estimated from draws."""

from toymodel.experiments.statistics import mean_interval

__all__ = ["mean_interval"]
