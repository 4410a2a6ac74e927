"""A sandbox for gradient entanglement in preference optimisation, on softmax language models small enough to solve.

Data flows from `data` (vocabulary, pairs, families of overlap) through `models` to two routes that never import one
another: `gradients` measures by automatic differentiation, `theory` predicts in closed form. They meet in `check`.
`losses` say how much of each gradient a step takes, `training` takes many steps and records what they do.
`experiments` measure one setting of all this, and a `sweep` measures many.

Names are loaded when they are first used, so importing the package takes no time; `__init__.pyi` lists them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
