"""A sweep computes every setting of its grids once, as `measure` would alone, and never again."""

import dataclasses
import hashlib
import itertools
import json
import math
from functools import partial

import jax
import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_experiment import FITS, GROWN, ODD, OPERATIONS, SHRUNK, SUMMED, TINY, WIDE, OddSetting, TinySetting

from toymodel import sweep
from toymodel._checks import REAL
from toymodel.experiments.experiment import real, setting
from toymodel.sweep import BadFolder, BadSetting, make_sweep
from toymodel.sweep.program import table
from toymodel.sweep.runner import compute, missing, results, run, tasks
from toymodel.sweep.store import Store

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
    """All settings, in order."""
    assert wanted.settings.columns == FIELDS
    return wanted.settings.rows()


def product(grid):
    """The settings of a grid, by another route: the last of its fields runs fastest."""
    grid = {name: [TINY.fields[name].default] for name in FIELDS if name not in grid} | grid
    rows = (dict(zip(grid, row, strict=True)) for row in itertools.product(*grid.values()))
    return [tuple(row[name] for name in FIELDS) for row in rows]


def alone(row):
    """`measure` of one setting, neither vectorised nor compiled together with others."""
    with jax.enable_x64(True):
        found = TINY.measure(TinySetting(**dict(zip(FIELDS, row, strict=True))))
    return {name: np.asarray(value) for name, value in found.items()}


@given(GRIDS, st.integers(1, 50))
def test_every_combination_is_in_one_shard_once(grid, shard_size):
    wanted = make_sweep(TINY, grid, shard_size=shard_size)
    assert rows_of(wanted) == product(grid)
    assert wanted.size == len(product(grid))
    shards = tasks(wanted)
    assert sorted(row for shard in shards for row in shard.settings.rows()) == sorted(product(grid))
    assert all(0 < shard.settings.height <= shard_size for shard in shards)
    assert all(shard.settings.n_unique(["size", "operation"]) == 1 for shard in shards)
    assert len({shard.name for shard in shards}) == len(shards)
    assert len(wanted.programs()) == len(grid.get("size", [3])) * len(grid.get("operation", ["sine"]))


def test_several_grids_are_run_together():
    wanted = make_sweep(TINY, {"seed": range(3)}, {"seed": range(3), "scale": [2.0, 3.0]}, {"size": 2, "limit": 5})
    assert rows_of(wanted) == (
        product({"seed": range(3)})
        + product({"seed": range(3), "scale": [2.0, 3.0]})
        + product({"size": [2], "limit": [5]})
    )
    assert len(wanted.programs()) == 2


def test_what_is_zipped_goes_together():
    wanted = make_sweep(TINY, {"zip": {"size": [2, 3, 2], "limit": [7, 8, 9]}, "seed": [5, 6]})
    assert {(row[0], row[3], row[4]) for row in rows_of(wanted)} == {
        (size, limit, seed) for size, limit in ((2, 7), (3, 8), (2, 9)) for seed in (5, 6)
    }
    assert [program.height for program in wanted.programs()] == [4, 2]


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
    assert rows_of(make_sweep(TINY, grid)) == product(expected)
    assert [row[2] for row in rows_of(make_sweep(TINY, {"scale": {"linear": [1, 2], "count": 3}}))] == [1.0, 1.5, 2.0]


@settings(max_examples=20)
@given(GRIDS)
def test_vectorised_rows_are_what_measure_says_of_each_setting(grid):
    wanted = make_sweep(TINY, grid)
    frame = table(TINY, max(wanted.programs(), key=len))
    assert frame.columns == [*FIELDS, "sign", "total", "values"]
    for row, found in zip(frame.select(FIELDS).rows(), frame.iter_rows(named=True), strict=True):
        expected = alone(row)
        # The same sums of at most 4 terms, added in another order: a few units in the last place.
        np.testing.assert_allclose(found["total"], expected["total"], rtol=1e-14, atol=1e-14)
        # A sine near 0 keeps the round-off of its argument, of a few units.
        np.testing.assert_allclose(found["values"], expected["values"], rtol=1e-14, atol=1e-14)
        assert found["sign"] == ("plus" if expected["values"][0] > 0 else "minus")


def test_a_program_is_compiled_once_for_each_shape(tmp_path):
    compiled = []

    def counted(setting):
        compiled.append(setting.size)  # runs when the program is traced
        return TINY.measure(setting)

    experiment = dataclasses.replace(TINY, measure=counted)

    def traced(seeds):
        compiled.clear()
        grid = {"size": [2, 3], "operation": list(OPERATIONS), "seed": seeds}
        run(make_sweep(experiment, grid, shard_size=7), tmp_path)
        return compiled.copy()

    few = traced(range(100))
    assert set(few) == {2, 3}
    assert traced(range(500)) == few  # however many shards; only the last program is kept from run to run


def computed(wanted, folder, **more):
    """The table, and how many settings were computed for it."""
    done = []
    frame = run(wanted, folder, progress=lambda count, _: done.append(count), **more).collect()
    return frame, sum(done)


def test_nothing_is_computed_twice(tmp_path):
    first = make_sweep(TINY, {"seed": range(50), "scale": [0.5, 1.0]}, shard_size=16)
    frame, count = computed(first, tmp_path)
    assert count == 100
    again, count = computed(first, tmp_path)
    assert count == 0
    assert again.equals(frame)


@settings(max_examples=10)
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
    assert widened.equals(fresh)
    assert widened.select(FIELDS).rows() == rows_of(wider)
    assert computed(wider, folders[0])[1] == 0
    everything = sweep.read(folders[0]).collect()
    assert everything.height == len({*product(narrow), *product(wide)})


def test_a_table_that_lacks_settings_is_refused(tmp_path):
    run(make_sweep(TINY, {"seed": range(5)}), tmp_path)
    with pytest.raises(BadFolder, match="lacks 3 of 5 settings; run it again"):
        results(make_sweep(TINY, {"seed": range(3, 8)}), Store.open(tmp_path))


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


def test_words_are_places_and_numbers_are_left_out_where_an_experiment_says_so(tmp_path):
    grids = {"operation": ["square", "exponential"], "seed": range(5)}, {"shift": [0.25, 1.0], "seed": range(5)}
    wanted = make_sweep(ODD, *grids)
    assert len(wanted.programs()) == 1
    frame, count = computed(wanted, tmp_path)
    assert count == 20
    assert frame["operation"].to_list() == ["square"] * 5 + ["exponential"] * 5 + ["sine"] * 10
    assert frame["shift"].is_nan().to_list() == [True] * 10 + [False] * 10
    for row in frame.iter_rows(named=True):
        place = np.int32(list(OPERATIONS).index(row["operation"]))
        alone = ODD.measure(OddSetting(**{name: row[name] for name in ODD.fields} | {"operation": place}))
        np.testing.assert_allclose(row["value"], alone["value"], rtol=1e-14)  # sums of two terms
    # Left out, a number is the same setting again, in a grid that is cut otherwise as well.
    wider = make_sweep(ODD, {"operation": ["exponential", "square", "sine"], "seed": range(6)}, shard_size=7)
    widened, count = computed(wider, tmp_path)
    assert count == 1 + 1 + 6
    assert widened.height == 18
    assert widened.filter(pl.col("operation") == "sine")["shift"].to_list() == [0.5] * 6
    assert computed(wider, tmp_path)[1] == 0
    assert widened.equals(computed(wider, tmp_path / "fresh")[0])


def test_settings_that_are_the_same_once_completed_are_refused():
    with pytest.raises(BadSetting, match=r"shift = 0\.5, seed = 0 occurs twice"):
        make_sweep(ODD, {"shift": [0.5, 1.0]}, {"operation": "sine"})
    with pytest.raises(BadSetting, match=r"shift = 0\.5, seed = 0 occurs twice"):
        make_sweep(ODD, {"shift": [math.nan, 0.5]})
    assert make_sweep(ODD, {"shift": 0.25}, {"operation": "sine"}).size == 2


def test_rules_hold_for_what_is_filled_in():
    wrong = dataclasses.replace(ODD, complete=lambda columns: columns | {"shift": np.full(len(columns["seed"]), 2.0)})
    with pytest.raises(BadSetting, match="`shift` must be left out but for sines"):
        make_sweep(wrong, {"operation": "square"})


def test_a_number_that_comes_with_a_new_loss_is_one_left_out(tmp_path):
    """Adding a hyperparameter that no setting has yet makes nothing stale; giving it computes what is new."""

    @setting
    class Wider(OddSetting):
        extra: float = real(math.nan, ODD.fields["shift"].domain)

    wider = dataclasses.replace(ODD, setting=Wider)
    before, count = computed(make_sweep(ODD, {"seed": range(9)}), tmp_path)
    assert count == 9
    after, count = computed(make_sweep(wider, {"seed": range(9)}), tmp_path)
    assert count == 0
    assert after.columns == ["size", "operation", "shift", "seed", "extra", "value"]
    assert after.drop("extra").equals(before)
    more, count = computed(make_sweep(wider, {"seed": range(9)}, {"seed": range(9), "extra": 2.0}), tmp_path)
    assert count == 9
    assert more["extra"].is_nan().to_list() == [True] * 9 + [False] * 9
    assert sweep.read(tmp_path).collect().height == 18
    with pytest.raises(BadFolder, match="another fields"):
        run(make_sweep(ODD, {"seed": 0}), tmp_path)
    sure = dataclasses.replace(
        ODD, setting=setting(type("Sure", (Wider,), {"extra": real(1.0, REAL), "__annotations__": {"extra": float}}))
    )
    run(make_sweep(ODD, {"seed": 0}), tmp_path / "other")
    given, count = computed(make_sweep(sure, {"seed": 0}), tmp_path / "other")
    assert (given["extra"].to_list(), count) == ([1.0], 1)  # the settings that are there had no such number


def needed_runs(folder):
    """How many settings each run of the needed experiment computed."""
    return [json.loads(path.read_text())["settings"] for path in folder.glob("tiny-float64-*/runs/*.json")]


def test_what_an_experiment_needs_is_computed_once_and_shared(tmp_path):
    both, shared = {"seed": range(10), "factor": [2.0, 3.0]}, tmp_path / "shared"
    grown, count = computed(make_sweep(GROWN, both), tmp_path / "grown", needed_in=shared)
    assert count == 20
    assert needed_runs(shared) == [10]
    shrunk, count = computed(make_sweep(SHRUNK, both), tmp_path / "shrunk", needed_in=shared)
    assert count == 20
    assert needed_runs(shared) == [10]  # nothing new
    tiny = {
        row["seed"]: row for row in run(make_sweep(TINY, {"seed": range(10)}), tmp_path / "tiny").collect().to_dicts()
    }
    for by_grown, by_shrunk in zip(grown.iter_rows(named=True), shrunk.iter_rows(named=True), strict=True):
        of, factor = tiny[by_grown["seed"]], by_grown["factor"]
        assert (by_grown["of"], by_grown["sign"]) == (of["total"], of["sign"])
        assert by_grown["grown"] == [factor * value for value in of["values"]]
        assert by_shrunk["shrunk"] == pytest.approx(of["total"] / (1 + factor**2), rel=1e-15)
    # Wider, in another order: two settings of what is needed are new, and four of the experiment itself.
    wide = make_sweep(GROWN, {"seed": [*range(11, -1, -1)], "factor": [2.0, 3.0]})
    widened, count = computed(wide, tmp_path / "grown", needed_in=shared)
    assert count == 4
    assert sorted(needed_runs(shared)) == [2, 10]
    alone, _ = computed(wide, tmp_path / "alone")
    assert widened.equals(alone)
    assert needed_runs(tmp_path / "alone" / "needed") == [12]


def test_sizes_may_decide_the_shapes_of_what_is_needed(tmp_path):
    grid = {"size": [2, 3, 5], "seed": range(4)}
    found, count = computed(make_sweep(SUMMED, grid), tmp_path / "summed", needed_in=tmp_path)
    assert count == 12
    (folder,) = tmp_path.glob("wide-*")
    alone = [run(make_sweep(WIDE, grid | {"size": size}), folder).collect() for size in grid["size"]]
    assert [frame["values"].dtype.shape for frame in alone] == [(2,), (3,), (5,)]
    sums = [sum(values) for frame in alone for values in frame["values"].to_list()]
    np.testing.assert_allclose(found["sum"], sums, rtol=1e-15, atol=1e-15)  # of five numbers near 1
    with pytest.raises(BadFolder, match="of other shapes"):
        sweep.read(folder)
    with pytest.raises(BadFolder, match="of other shapes"):
        run(make_sweep(WIDE, grid), folder)


def test_what_is_needed_is_kept_when_a_run_is_interrupted(tmp_path):
    wanted = make_sweep(GROWN, {"seed": range(40), "size": [2, 3]})

    def interrupt_at(last, _, shard):
        if shard == last:
            raise KeyboardInterrupt

    for last in ("tiny, shard 2 of 2", "shard 3 of 6"):
        with pytest.raises(KeyboardInterrupt):
            run(wanted, tmp_path, progress=partial(interrupt_at, last))
    # One of two shards that are needed was written before the first interrupt, and is not computed again.
    assert sum(needed_runs(tmp_path / "needed")) == 40
    frame, count = computed(wanted, tmp_path)
    assert count == 80 - 32
    assert sweep.read(next((tmp_path / "needed").iterdir())).collect().height == 80
    assert frame.equals(computed(wanted, tmp_path / "fresh")[0])


def test_what_another_process_has_claimed_is_left_to_it(tmp_path):
    wanted = make_sweep(TINY, {"seed": range(40)}, shard_size=8)
    store = Store.create(tmp_path, wanted)
    todo = tasks(missing(wanted, store))
    assert [task.settings.height for task in todo] == [8] * 5
    with store.claim(todo[2].name) as mine:
        assert mine
        assert compute(wanted, store, todo[2], wait=False) is None
        assert compute(wanted, store, todo[1], wait=False) == 8
    assert compute(wanted, store, todo[2], wait=False) == 8
    assert compute(wanted, store, todo[1], wait=False) == 0  # it is there
    assert [task.name for task in tasks(missing(wanted, store))] == [todo[i].name for i in (0, 3, 4)]


def test_other_code_of_a_loss_sets_its_results_aside_and_no_others(tmp_path, monkeypatch):
    wanted = make_sweep(TINY, {"operation": ["sine", "square"], "seed": range(4)})
    versions = {"sine": 1, "square": 1}  # as if they were losses
    monkeypatch.setattr(
        sweep.Experiment,
        "code",
        lambda _, words=(): hashlib.sha256(repr([(word, versions[word]) for word in words]).encode()).hexdigest(),
    )
    before, _ = computed(wanted, tmp_path)
    versions["sine"] = 2
    told = []
    after, count = computed(wanted, tmp_path, notice=told.append)
    assert count == 4
    assert after.equals(before)
    assert [line.partition(" was ")[2] for line in told] == ["computed by other code; it is set aside."]
    (aside,) = (tmp_path / "set_aside").iterdir()
    assert pl.read_parquet(aside)["operation"].unique().to_list() == ["sine"]
    assert computed(wanted, tmp_path)[1] == 0


def test_a_rule_is_checked_where_it_is_broken():
    with pytest.raises(BadSetting, match="got size = 3, limit = 2") as caught:
        make_sweep(TINY, {"limit": [5, 2]}, {"size": 2})
    assert (caught.value.key, caught.value.grid) == ("limit", 0)
    assert FITS in TINY.rules
