"""Training on preference pairs: `train` is the loop, an `Update` is what one step does, a `Trajectory` its record.

`account` and `attribute` train in the same way, and compute what each part of the training data contributed to the
answers.

Names are loaded when they are first used, so results of training do not depend on the other modules here.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
