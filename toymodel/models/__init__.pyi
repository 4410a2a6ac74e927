from . import linear, logps, mlp, readout, stages, transformer, unconstrained

__all__ = ["linear", "logps", "mlp", "readout", "stages", "transformer", "unconstrained"]
