"""Sweeps: an experiment run for a grid of settings, as one table, resumable, on one machine or a cluster.

`make_sweep` makes grids of settings; `run` computes those that a folder lacks and returns their table; `read` reads
everything in a folder. `toymodel.experiments` defines experiments. `__init__.pyi` lists the public names.
"""

import lazy_loader

from toymodel._files import BadFolder
from toymodel.experiments.experiment import POSITIVE, REAL, BadSetting, Experiment, Field, Rule, one_of, real, whole

# Loaded when used, so that results depend on the module that runs an experiment, but not on those that store them.
_LAZY = {"grid": ["Sweep", "make_sweep"], "runner": ["run"], "store": ["read"]}
__getattr__, _, _lazy = lazy_loader.attach(__name__, submod_attrs=_LAZY)
__all__ = ["POSITIVE", "REAL", "BadFolder", "BadSetting", "Experiment", "Field", "Rule", "one_of", "real", "whole"]
__all__ += _lazy


def __dir__() -> list[str]:
    return __all__
