from . import flat, linear, logps, mlp, readout, stages, transformer, unconstrained

__all__ = ["flat", "linear", "logps", "mlp", "readout", "stages", "transformer", "unconstrained"]
