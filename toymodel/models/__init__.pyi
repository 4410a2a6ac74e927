from . import crowd, flat, linear, logps, mlp, readout, stages, transformer, unconstrained

__all__ = ["crowd", "flat", "linear", "logps", "mlp", "readout", "stages", "transformer", "unconstrained"]
