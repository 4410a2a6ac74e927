"""`toymodel sweep`: a sweep from a shell."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from toymodel.commands._environment import use_devices

Folder = Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")]


def run(
    config: Positional[Annotated[Path | None, arg(metavar="CONFIG.toml", help_behavior_hint="")]] = None,
    *,
    out: Folder = None,
    resume: bool = False,
    dry_run: bool = False,
    devices: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: all cores)")] = None,
    scheduler: Annotated[str | None, arg(metavar="ADDRESS", help_behavior_hint="")] = None,
    status: Folder = None,
    verify: Folder = None,
) -> int:
    """Run an experiment for every setting of a grid, into a folder of Parquet files.

    for example:
      toymodel sweep examples/overlap.toml --dry-run
      toymodel sweep examples/overlap.toml --out results
      toymodel sweep examples/overlap.toml --out results --resume
      toymodel sweep --status results
      toymodel sweep --verify results

    Results are Parquet files; toymodel.sweep.read(DIR) is their table. See
    examples/README.md for configurations, and for experiments of your own.

    Args:
      config: experiment and settings
      out: the folder of the results
      resume: go on where a run stopped, or with a wider grid
      dry_run: say what there is to do, and do nothing
      devices: CPU devices to share the work
      scheduler: of a Dask cluster that computes the shards
      status: say how far a sweep has come
      verify: check every file of a sweep's folder
    """
    from toymodel.commands._sweep import run_all, tell, tell_plan
    from toymodel.sweep import inspection
    from toymodel.sweep.config import load

    if status is not None:
        return tell(inspection.status, status)
    if verify is not None:
        return tell(inspection.verify, verify)
    if config is None:
        raise ValueError("give a CONFIG.toml, or --status DIR, or --verify DIR.")
    if not dry_run and out is None:
        raise ValueError("give --out DIR, the folder of the results (or --dry-run).")
    use_devices(devices)
    sweep = load(config)
    if dry_run or out is None:
        tell_plan(sweep, out)
    else:
        run_all(sweep, config, out, resume=resume, scheduler=scheduler)
    return 0
