"""Intervals of what is estimated from draws."""

from toymodel.statistics import mean_interval

__all__ = ["mean_interval"]
