"""A sweep computes every setting of its grids once, as `measure` would alone, and never again."""

import dataclasses
import itertools
from functools import partial
from types import SimpleNamespace

import jax
import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from tiny_experiment import OPERATIONS, TINY

from toymodel import sweep
from toymodel.experiments import SENTIMENT
from toymodel.sweep import Choice, make_sweep
from toymodel.sweep.program import table
from toymodel.sweep.runner import program_name, run

FIELDS = list(TINY.fields)
VALUES = {
    "size": st.lists(st.integers(2, 4), min_size=1, max_size=3, unique=True),
    "operation": st.lists(st.sampled_from(list(OPERATIONS)), min_size=1, max_size=3, unique=True),
    "scale": st.lists(st.floats(0.1, 2.0), min_size=1, max_size=3, unique=True),
    "limit": st.lists(st.integers(4, 1000), min_size=1, max_size=2, unique=True),
    "seed": st.lists(st.integers(0, 2**40), min_size=1, max_size=20, unique=True),
}
GRIDS = st.fixed_dictionaries({}, optional=VALUES)


def rows_of(wanted):
    """All settings that the shards hold, in the order of the shards."""
    columns = [wanted.settings(shard) for shard in wanted.shards()]
    return [row for shard in columns for row in zip(*(shard[name].tolist() for name in FIELDS), strict=True)]


def product(grid):
    """The settings of a grid, by another route."""
    axes = [grid.get(name, [TINY.fields[name].default]) for name in FIELDS]
    return list(itertools.product(*axes))


def alone(row):
    """`measure` of one setting, neither vectorised nor compiled together with others."""
    given = dict(zip(FIELDS, row, strict=True))
    operation = Choice(np.int32(0), (given["operation"],))
    with jax.enable_x64(True):
        found = TINY.measure(SimpleNamespace(**given | {"operation": operation}))
    return {name: np.asarray(value) for name, value in found.items()}


@given(GRIDS, st.integers(1, 50))
def test_every_combination_is_in_one_shard_once(grid, shard_size):
    wanted = make_sweep(TINY, grid, shard_size=shard_size)
    assert sorted(rows_of(wanted)) == sorted(product(grid))
    assert wanted.size == len(product(grid))
    shards = list(wanted.shards())
    assert len(shards) == wanted.shard_count
    assert all(0 < shard.stop - shard.start <= shard_size for shard in shards)
    for shard in shards:
        assert len(set(wanted.settings(shard)["size"])) == 1
    assert wanted.compilations == len(grid.get("size", [3]))


def test_several_grids_are_run_together():
    wanted = make_sweep(TINY, {"seed": range(3)}, {"seed": range(3), "scale": [2.0, 3.0]}, {"size": 2, "limit": 5})
    assert sorted(rows_of(wanted)) == sorted(
        product({"seed": range(3)})
        + product({"seed": range(3), "scale": [2.0, 3.0]})
        + product({"size": [2], "limit": [5]})
    )
    assert wanted.compilations == 2


def test_what_is_zipped_goes_together():
    wanted = make_sweep(TINY, {"zip": {"size": [2, 3, 2], "limit": [7, 8, 9]}, "seed": [5, 6]})
    assert {(row[0], row[3], row[4]) for row in rows_of(wanted)} == {
        (size, limit, seed) for size, limit in ((2, 7), (3, 8), (2, 9)) for seed in (5, 6)
    }
    assert wanted.compilations == 2
    assert len(list(wanted.shards())) == 2


def test_draws_are_in_range_and_do_not_depend_on_their_number_or_company():
    scales = {"scale": {"log": [0.01, 100.0]}, "seed": {"range": [10, 20]}}
    few, many = (make_sweep(TINY, {"random": {"draws": n, "key": 3, **scales}}) for n in (50, 400))
    assert set(rows_of(few)) <= set(rows_of(many))
    more = make_sweep(TINY, {"random": {"draws": 50, "key": 3, "operation": list(OPERATIONS), **scales}})
    assert [row[2:] for row in sorted(rows_of(few), key=lambda row: row[2])] == [
        row[2:] for row in sorted(rows_of(more), key=lambda row: row[2])
    ]
    scale = np.array([row[2] for row in rows_of(many)])
    assert scale.min() >= 0.01
    assert scale.max() <= 100
    # Half of 400 log-uniform draws lie below 1, to within 5 standard deviations of 10.
    assert abs((scale < 1).sum() - 200) < 50
    assert {row[4] for row in rows_of(many)} == set(range(10, 20))
    assert rows_of(make_sweep(TINY, {"random": {"draws": 50, "key": 4, **scales}})) != rows_of(few)
    repeated = make_sweep(TINY, {"random": {"draws": 100, "seed": [1, 2, 3]}})
    assert repeated.size == 3


def test_tables_stand_for_sequences():
    grid = {"seed": {"range": [2, 9, 3]}, "scale": {"log": [0.1, 10.0], "count": 3}, "limit": {"range": [3, 5]}}
    expected = {"seed": [2, 5, 8], "scale": [0.1, 1.0, 10.0], "limit": [3, 4]}
    assert sorted(rows_of(make_sweep(TINY, grid))) == sorted(product(expected))
    assert [row[2] for row in rows_of(make_sweep(TINY, {"scale": {"linear": [1, 2], "count": 3}}))] == [1.0, 1.5, 2.0]


@settings(max_examples=20)
@given(GRIDS)
def test_vectorised_rows_are_what_measure_says_of_each_setting(grid):
    wanted = make_sweep(TINY, grid)
    shard = max(wanted.shards(), key=lambda shard: shard.stop - shard.start)
    frame = table(wanted, wanted.settings(shard))
    assert frame.columns == [*FIELDS, "sign", "total", "values"]
    for row, found in zip(frame.select(FIELDS).rows(), frame.iter_rows(named=True), strict=True):
        expected = alone(row)
        # The same sums of at most 4 terms, added in another order: a few units in the last place.
        np.testing.assert_allclose(found["total"], expected["total"], rtol=1e-14, atol=1e-14)
        np.testing.assert_allclose(found["values"], expected["values"], rtol=1e-14)
        assert found["sign"] == ("plus" if expected["values"][0] > 0 else "minus")


def test_a_program_is_compiled_once_for_each_shape(tmp_path):
    compiled = []

    def counted(setting):
        compiled.append(setting.size)  # runs when the program is traced
        return TINY.measure(setting)

    experiment = dataclasses.replace(TINY, measure=counted)
    run(
        make_sweep(experiment, {"size": [2, 3], "operation": list(OPERATIONS), "seed": range(100)}, shard_size=7),
        tmp_path,
    )
    traces = len(compiled)
    compiled.clear()
    run(
        make_sweep(experiment, {"size": [2, 3], "operation": list(OPERATIONS), "seed": range(500)}, shard_size=7),
        tmp_path,
    )
    assert traces > 0
    assert not compiled


def test_choices_that_are_not_used_are_not_compiled():
    def branch(name):
        def refuse(_):
            raise AssertionError(name)

        return refuse

    choice = Choice(np.int32(0), ("used",))
    assert choice.switch({"used": lambda x: x + 1, "other": branch("other")}, 1) == 2


def computed(wanted, folder):
    """The table, and how many settings were computed for it."""
    done = []
    frame = run(wanted, folder, progress=lambda count, _: done.append(count)).collect()
    return frame, sum(done)


def test_nothing_is_computed_twice(tmp_path):
    first = make_sweep(TINY, {"seed": range(50), "scale": [0.5, 1.0]}, shard_size=16)
    frame, count = computed(first, tmp_path)
    assert count == 100
    again, count = computed(first, tmp_path)
    assert count == 0
    assert again.equals(frame)


@settings(max_examples=15)
@given(narrow=GRIDS, wide=GRIDS, size=st.integers(1, 40), other_size=st.integers(1, 40))
@example(narrow={"scale": [0.5]}, wide={"operation": ["sine", "exponential"]}, size=1, other_size=1)
def test_a_wider_grid_computes_what_is_new_and_equals_a_fresh_run(tmp_path_factory, narrow, wide, size, other_size):
    wide = {name: list(dict.fromkeys([*narrow.get(name, []), *wide.get(name, [])])) for name in {*narrow, *wide}}
    folders = [tmp_path_factory.mktemp("sweep") for _ in range(2)]
    _, count = computed(make_sweep(TINY, narrow, shard_size=size), folders[0])
    assert count == len(product(narrow))
    wider = make_sweep(TINY, wide, shard_size=other_size)
    widened, count = computed(wider, folders[0])
    shared = set(product(narrow)) & set(product(wide))
    assert count == len(product(wide)) - len(shared)
    fresh, _ = computed(wider, folders[1])
    if wider.options == make_sweep(TINY, narrow).options:
        assert widened.equals(fresh)
    # With other options beside it, a choice is in another program: sums of at most 4 terms may round otherwise.
    assert_frame_equal(widened, fresh, rel_tol=1e-14, abs_tol=1e-14)
    assert widened.select(FIELDS).rows() == rows_of(wider)
    assert computed(wider, folders[0])[1] == 0
    everything = sweep.read(folders[0]).collect()
    assert everything.height == len({*product(narrow), *product(wide)})


def test_float32_is_asked_for_by_name_and_kept_apart(tmp_path):
    grid = {"seed": range(9)}
    single = run(make_sweep(TINY, grid, precision="float32"), tmp_path / "single").collect()
    double = run(make_sweep(TINY, grid), tmp_path / "double").collect()
    assert single["total"].dtype == pl.Float32
    assert double["total"].dtype == pl.Float64
    with pytest.raises(ValueError, match="another precision"):
        run(make_sweep(TINY, grid), tmp_path / "single")


def test_progress_counts_settings_and_an_interrupt_keeps_what_is_done(tmp_path):
    wanted, seen = make_sweep(TINY, {"seed": range(100)}, shard_size=10), []

    def progress(count, shard):
        seen.append((count, shard))
        if len(seen) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(wanted, tmp_path, progress=progress)
    assert {shard for _, shard in seen} <= {f"shard {n} of 10" for n in range(1, 5)}
    interrupted = int(seen[-1][1].split()[1])
    kept = sweep.read(tmp_path).collect().height
    assert kept == 10 * (interrupted - 1)  # what was in hand was not written
    frame, count = computed(wanted, tmp_path)
    assert count == 100 - kept
    assert frame.height == 100


def test_a_measure_whose_source_cannot_be_followed_is_refused():
    with pytest.raises(ValueError, match=r"`measure` of 'tiny' must be a function, got functools\.partial"):
        dataclasses.replace(TINY, measure=partial(TINY.measure))


def test_names_of_programs_fit_any_file_system_and_differ():
    grid = {
        "task": ["short_suffix", "long_suffix"],
        "checkpoint_every": [10, 15],
        "seed": 0,
    }  # among the first and last
    wanted = make_sweep(SENTIMENT, grid)
    names = {program_name(wanted, shard) for shard in wanted.shards()}
    assert len(names) == 4
    assert max(len(name.encode()) for name in names) <= 255
