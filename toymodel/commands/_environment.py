"""What jax must be told before it begins, in a process that is a command of ours."""

import contextlib
import ctypes
import gc
import os
import sys

from toymodel._files import cache_folder


def prepare() -> None:
    """Keep compiled programs between calls, and XLA's log to itself; does nothing once jax is there.

    Programs are kept in the user's cache folder, unless `JAX_COMPILATION_CACHE_DIR` names another one, the folder
    cannot be written, or `TOYMODEL_CACHE` is "off".
    """
    if "jax" in sys.modules:
        return
    # XLA logs a warning ("Very slow compile?") as an error; real errors are raised anyway.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if os.environ.get("TOYMODEL_CACHE") == "off" or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        folder = cache_folder() / "jax"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # the home folder is missing or not ours
        return
    if os.access(folder, os.W_OK):
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def use_devices(count: int | None) -> None:
    """As many CPU devices as there are cores, unless this or the environment says otherwise."""
    if count is not None and count < 1:
        raise ValueError(f"--devices must be at least 1, got {count}.")
    if count is None and ("JAX_NUM_CPU_DEVICES" in os.environ or "device_count" in os.environ.get("XLA_FLAGS", "")):
        return
    import jax

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(RuntimeError):  # jax has already started in this process
        jax.config.update("jax_num_cpu_devices", count or cores or 1)  # type: ignore[no-untyped-call]


def release_memory() -> None:
    """Give back compiled programs, and freed memory that the C library keeps, between runs of a large model."""
    import jax

    jax.clear_caches()  # type: ignore[no-untyped-call]
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)
