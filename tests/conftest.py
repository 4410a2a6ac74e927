"""Everything runs in float64, warnings are errors (pyproject.toml), and the number of examples is a profile."""

import functools
import gc
import os
from pathlib import Path

import jax
import pytest
from browser import browser, chromium  # noqa: F401 (fixtures)
from hypothesis import settings

jax.config.update("jax_enable_x64", True)

# No deadline: the first example of a new shape compiles. `derandomize` in CI, so a red run is red again.
settings.register_profile("dev", max_examples=30, deadline=None)
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True, print_blob=True)
EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "3000"))
settings.register_profile("deep", max_examples=EXAMPLES, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

MANY_MAPS = 12_000  # some 3 GB of memory


draws = 0  # examples on which a property was found to hold


def pytest_collection_modifyitems(items):
    """Large files first, which take long as a rule: so workers that take one file after the other end together."""
    items.sort(key=lambda item: item.path.stat().st_size, reverse=True)
    for test in {item.obj for item in items if hasattr(item.obj, "hypothesis")}:  # one for all its parameters
        test.hypothesis.inner_test = counted(test.hypothesis.inner_test)


def pytest_collection_finish():
    """All modules are loaded and stay: the collector need not go through them again, nor after every 700 objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def counted(test):
    @functools.wraps(test)
    def counting(*arguments, **named):
        global draws
        test(*arguments, **named)
        draws += 1

    return counting


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["draws"] = draws


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """A worker's draws are counted with the others'."""
    global draws
    draws += getattr(node, "workeroutput", {}).get("draws", 0)


def pytest_terminal_summary(terminalreporter):
    if draws:
        terminalreporter.line(f"{draws} draws")


@pytest.fixture(autouse=True, scope="session")
def sweeps_of_figures_are_shared(tmp_path_factory):
    """All workers use one folder of sweeps: their own folders lie in one of the session."""
    folder = tmp_path_factory.getbasetemp()
    os.environ["TOYMODEL_TEST_SWEEPS"] = str(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder)
    yield
    del os.environ["TOYMODEL_TEST_SWEEPS"]


@pytest.fixture(autouse=True, scope="module")
def compiled_programs_are_let_go():
    """Each holds memory maps, of which Linux allows a process 65,530. Until there are many, modules share programs."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MANY_MAPS:
        jax.clear_caches()
