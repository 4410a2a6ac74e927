"""Every figure's lines meet its markers, it shows what it claims, and the driver builds exactly what is needed."""

import importlib
import json
import subprocess
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from matplotlib.text import Text
from quick_figures import quick, swept

from figures import account_runs, build, fig_case_map, fig_overlap, fig_story, gallery, style, suffix_runs
from figures.sweeps import swept_in_a_hurry
from toymodel import theory
from toymodel.data.sentiment import TASKS
from toymodel.experiments.account import TOKENS, accounts
from toymodel.sweep import make_sweep

FIGURES = (
    *(
        "fig_account",
        "fig_case_fractions",
        "fig_case_map",
        "fig_credit",
        "fig_crowd",
        "fig_crowd_network",
        "fig_finite_step",
        "fig_flow",
        "fig_groups",
        "fig_loss_band",
    ),
    *(
        "fig_loss_cases",
        "fig_losses",
        "fig_losses_all",
        "fig_mass",
        "fig_overlap",
        "fig_suffix_threshold",
        "fig_token_map",
    ),
    *(
        "fig_training",
        "fig_training_network",
        "fig_layers",
        "fig_network_overlap",
        "fig_predictors",
        "fig_sentiment_tokens",
    ),
    *("fig_sentiment", "fig_sentiment_cosine", "fig_sentiment_regime", "fig_network_step"),
    *("fig_masks", "fig_normalised_batch", "fig_common_step"),
    *("fig_remedies", "fig_remedy_account", "fig_remedy_pareto", "fig_remedy_tasks", "fig_remedy_trajectories"),
    "fig_story",
)
CHEAP = "fig_suffix_threshold"
# Sums and means of at most 1e4 terms of size about 1, in float64: 1e4 · 1.1e-16.
ROUNDOFF = {"rtol": 1e-12, "atol": 1e-12}


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("fig_overlap", ("inner_", "cosine_")),
        ("fig_suffix_threshold", ("chosen_", "rejected_", "chosen_sq_", "inner_")),
        ("fig_token_map", ("",)),
    ],
)
def test_lines_and_markers_agree_to_round_off(name, columns):
    for column in columns:
        predicted, measured = (quick(name)[f"{column}{end}"] for end in ("predicted", "measured"))
        assert len(np.unique(measured)) > 10
        np.testing.assert_allclose(measured, predicted, **ROUNDOFF)


def test_the_more_tokens_are_shared_the_larger_the_inner_product():
    table = style.rows(quick("fig_overlap"), family="positional", model=fig_overlap.UNIFORM)
    assert table["inner_measured"][0] < 0  # nothing shared: −L/V
    np.testing.assert_allclose(table["inner_measured"], table["shared"] - 12 / 20, **ROUNDOFF)
    for model in ("unigram", "positional"):
        table = style.rows(quick("fig_overlap"), family="prefix", model=model)
        assert table["inner_measured"][-1] > table["inner_measured"][0]


def test_sharing_counts_only_where_the_model_ties_its_parameters():
    """Reordered tokens meet in the unigram model alone; what follows a contrast token never meets in a prefix model."""
    bag, contrast = (style.rows(quick("fig_overlap"), family=family) for family in ("bag", "contrast"))
    most = {model: style.rows(bag, model=model, shared=12)["cosine_measured"][0] for model in fig_overlap.MODELS}
    np.testing.assert_allclose(most.pop("unigram"), 1, **ROUNDOFF)
    assert max(most.values()) < 0.5
    inner = style.rows(contrast, model="prefix")["inner_measured"]
    assert (np.diff(inner) < 0).all()


def test_contrast_tokens_point_apart_and_identical_tokens_together():
    table = quick("fig_token_map")
    contrast = style.rows(table, chosen_token="positive", rejected_token="negative")["measured"]
    assert len(contrast) == 2
    assert (contrast < 0).all()
    assert (style.rows(table, same_token=1)["measured"] > 0).all()


@pytest.mark.parametrize(("a", "b", "threshold"), [(0.9, 0.5, 23.75), (0.3, 0.1, 19 / 2.8), (0.5, 0.7, 19 / 1.2)])
def test_the_threshold_is_where_a_measured_slope_changes_sign(a, b, threshold):
    shown = style.rows(quick("fig_suffix_threshold"), a=a, b=b)["threshold_predicted"]
    np.testing.assert_allclose(shown, threshold, **ROUNDOFF)
    lengths = [int(threshold), int(threshold) + 1]
    around = swept(make_sweep(suffix_runs.EXPERIMENT, {"a": a, "b": b, "suffix_length": lengths}))
    assert around["suffix_length"].tolist() == lengths
    signs = np.sign(around["chosen_measured" if a > b else "rejected_measured"])
    assert signs.tolist() == ([1, -1] if a > b else [-1, 1])


def test_the_story_is_that_of_the_condition():
    """The chosen falls exactly where ⟨g_w, g_l⟩ exceeds ‖g_w‖², from the threshold on; the rejected falls anyway."""
    table = quick("fig_story")
    curves = {name: style.rows(table, curve=name) for name in ("inner", "chosen_sq", "chosen", "rejected", "threshold")}
    entangled = curves["inner"]["measured"] > curves["chosen_sq"]["measured"]
    np.testing.assert_array_equal(entangled, curves["chosen"]["measured"] < 0)
    np.testing.assert_array_equal(entangled, curves["inner"]["x"] > curves["threshold"]["x"][0])
    assert 0 < entangled.sum() < len(entangled)
    assert (curves["rejected"]["measured"] < 0).all()


def test_the_story_goes_on_with_a_crowd_and_ends_with_an_account():
    """Pairs that step together lower the chosen sooner (T22); in training what the sources brought adds up (T23)."""
    table = quick("fig_story")
    crowd = style.rows(table, curve="crowd")
    np.testing.assert_allclose(crowd["measured"], crowd["predicted"], **ROUNDOFF)
    alone, together = (style.rows(table, curve=f"threshold{of}")["x"][0] for of in ("", " of the crowd"))
    assert 0 < together < alone
    np.testing.assert_array_equal(crowd["measured"] < 0, crowd["x"] > together)
    change = style.rows(table, curve="change")
    assert change["x"].tolist() == [0, 2, 8]
    brought = [style.rows(table, curve=source)["measured"] for source in fig_story.SOURCES]
    np.testing.assert_allclose(sum(brought), change["predicted"], **ROUNDOFF)
    np.testing.assert_allclose(change["predicted"], change["measured"], rtol=0.1, atol=0.02)  # but for curvature
    told, found = accounts(account_runs.runs(True, swept)), change["measured"]
    np.testing.assert_allclose(found, [told[0][task].true_change for task in TASKS], **ROUNDOFF)
    assert style.rows(table, curve="rejected suffix")["measured"][0] == 0  # there is none
    # In a small network that hardly learnt, sources that cancel are huge; who lowers the chosen is told in full.
    in_full = style.read_table(build.FOLDER / "gallery" / "fig_story.csv")
    assert (style.rows(in_full, curve="rejected suffix")["measured"][1:] < 0).all()


def test_the_account_counts_the_seeds_in_which_a_source_lowers_a_part():
    for task in TASKS[1:]:
        found = style.rows(account_runs.runs(True, swept), task=task)["contributions"].mean(axis=-1)
        for i, source in enumerate(TOKENS):
            for j, part in enumerate(TOKENS):
                row = style.rows(quick("fig_account"), task=task, source=source, part=part)
                assert row["seeds_below"].tolist() == [np.sum(found[:, i, j] < 0)]
                np.testing.assert_allclose(row["brought_measured"], found[:, i, j].mean(), **ROUNDOFF)


def test_every_marker_of_the_case_map_is_in_its_region():
    table = quick("fig_case_map")
    table = {name: column[table["model"] != fig_case_map.EDGES] for name, column in table.items()}
    place, low, high = (table[name] for name in ("ratio_over_centre", "low_predicted", "high_predicted"))
    # In a step of 1e-6, curvature moves the edges by about 1e-5 of their place; within 1e-4 either side would be right.
    at_an_edge = (abs(place / high - 1) < 1e-4) | (abs(place - low) < 1e-4 * low)
    assert not at_an_edge.any()
    region = np.select([place <= low, place >= high], ["both_down", "both_up"], "chosen_up_rejected_down")
    np.testing.assert_array_equal(table["case_measured"], region)
    np.testing.assert_array_equal(table["case_measured"], table["case_predicted"])
    assert set(region) == set(theory.CASES[:3])


def test_the_fractions_are_of_three_cases():
    table = quick("fig_case_fractions")
    np.testing.assert_array_equal(table["measured"], table["predicted"])
    by_case = {case: style.rows(table, case=case)["measured"] for case in theory.CASES[:4]}
    # Four fractions and three sums, each rounded once: 7 · 1.1e-16.
    np.testing.assert_allclose(sum(by_case.values()), 1, rtol=1e-15)
    assert (by_case["chosen_down_rejected_up"] == 0).all()
    assert by_case["chosen_up_rejected_down"][0] == 1  # one differing token: DPO always separates
    assert (np.diff(by_case["chosen_up_rejected_down"]) < 0).all()
    assert (table["low"] <= table["measured"] + 1e-15).all()
    assert (table["measured"] <= table["high"] + 1e-15).all()


@pytest.mark.parametrize("name", FIGURES)
def test_the_csv_is_all_that_the_picture_needs(name, tmp_path):
    style.write_table(quick(name), tmp_path / "table.csv")
    table = style.read_table(tmp_path / "table.csv")
    for column, values in quick(name).items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(table[column], values, rtol=1e-9, atol=1e-300)  # ten digits are written
        else:
            np.testing.assert_array_equal(table[column], values)
    figure = importlib.import_module(f"figures.{name}").draw(table)
    assert figure.get_figwidth() in (style.COLUMN, style.PAGE)
    assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text()) >= 7
    style.write_small_png(figure, tmp_path / "small.png")
    assert 5_000 < (tmp_path / "small.png").stat().st_size < 100_000


def run(*arguments):
    return build.main([str(argument) for argument in arguments])


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    assert run("--quick", "--only", CHEAP, "--out", out) == 0
    return out


def test_a_rebuild_gives_the_same_bytes(built, tmp_path):
    assert run("--quick", "--only", CHEAP, "--out", tmp_path) == 0
    assert files(tmp_path) == files(built)
    assert set(files(built)) == {f"{CHEAP}{suffix}" for suffix in build.OUTPUTS}
    provenance = json.loads((built / f"{CHEAP}.json").read_text())
    assert provenance["quick"] is True
    assert provenance["packages"]["numpy"] == np.__version__


def test_what_is_up_to_date_is_seen_without_jax_or_matplotlib(built):
    code = (
        "import sys; from figures import build\n"
        f"code = build.main(['--quick', '--only', {CHEAP!r}, '--out', {str(built)!r}])\n"
        "sys.exit(code or bool({'jax', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=build.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"1 figure is up to date in {built}.\n"


def test_a_missing_file_or_another_setting_is_out_of_date(built, tmp_path):
    here = build._content_hash(CHEAP, True)
    assert build._up_to_date(CHEAP, here, built)
    assert not build._up_to_date(CHEAP, build._content_hash(CHEAP, False), built)
    for name, content in list(files(built).items())[1:]:
        (tmp_path / name).write_bytes(content)
    assert not build._up_to_date(CHEAP, here, tmp_path)


def test_changed_code_is_out_of_date_and_changed_words_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    figure, helper, style_file = (tmp_path / f"{name}.py" for name in ("fig_a", "helper", "style"))
    figure.write_text('"""A figure."""\nimport helper\n')
    helper.write_text("SIZE = 3\n")
    style_file.write_text("")
    before = build._content_hash("fig_a", True)
    figure.write_text('"""A better sentence."""\nimport helper  # shared\n')
    assert build._content_hash("fig_a", True) == before
    for source, text in ((helper, "SIZE = 4\n"), (figure, "import helper\nX = 1\n"), (style_file, "INK = 1\n")):
        source.write_text(text)
        assert build._content_hash("fig_a", True) != before
        before = build._content_hash("fig_a", True)


def test_the_figures_of_the_paper_come_first():
    names, of_paper = build._names([], False), build._names([], True)
    assert of_paper[0] == "fig_training"
    assert names[: len(of_paper)] == of_paper
    wanted = {"fig_training_network", "fig_losses", "fig_sentiment", "fig_sentiment_cosine", "fig_sentiment_tokens"}
    assert wanted < set(of_paper)
    assert sorted(names) == sorted(path.stem for path in build.FOLDER.glob("fig_*.py"))


def test_a_process_that_has_no_figure_left_computes_what_others_still_do(built, tmp_path, monkeypatch):
    """And writes nothing: the sweeps are the figure's, whoever computed them."""
    computed = []

    class Stub:
        swept = staticmethod(dict)  # is only handed on

        @staticmethod
        def compute(quick, swept):
            computed.append((quick, swept.args))

    monkeypatch.setattr(build, "_load", lambda _: Stub)
    build._help(CHEAP, build._content_hash(CHEAP, True), True, built)
    assert not computed  # it is made
    build._help(CHEAP, "another", True, tmp_path)
    assert computed == [(True, (tmp_path,))]
    assert not list(tmp_path.iterdir())


def test_figures_never_import_figures():
    for path in build.FOLDER.glob("fig_*.py"):
        others = {other.stem for other in build.dependencies(path)} - {path.stem}
        assert not [name for name in others if name.startswith("fig_")], path.name


def test_processes_make_the_same_files_as_this_one(built, tmp_path):
    another = "fig_case_map"
    assert run("--quick", "--jobs", 2, "--only", CHEAP, "--only", another, "--out", tmp_path) == 0
    assert files(built).items() <= files(tmp_path).items()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nonsense"], "there is no figure 'nonsense'; there are fig_account, "),
        (["--only", CHEAP, "--out", "FILE/out"], "cannot write to "),
        (["--gallery", "--quick"], "leave out --quick, --paper and --only"),
        (["--paper", "--only", CHEAP], "--paper and --only name figures twice"),
        (["--jobs", "0"], "--jobs must be at least 1, got 0"),
    ],
    ids=["unknown name", "folder below a file", "gallery in quick", "both", "no process"],
)
def test_bad_input_is_told_in_one_line(arguments, message, tmp_path, capsys):
    (tmp_path / "FILE").write_text("")
    assert run(*(argument.replace("FILE", str(tmp_path / "FILE")) for argument in arguments)) == 2
    output = capsys.readouterr()
    assert message in output.err
    assert output.err.count("\n") == 1
    assert output.out == ""


def failing(error):
    def compute(_quick, _swept):
        raise error

    return lambda name: (
        SimpleNamespace(compute=compute) if name == CHEAP else importlib.import_module(f"figures.{name}")
    )


def test_an_interrupt_leaves_the_old_files_whole(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(build, "_load", failing(KeyboardInterrupt()))
    (tmp_path / f"{CHEAP}.csv").write_text("old")
    assert run("--only", CHEAP, "--out", tmp_path) == 130
    assert files(tmp_path) == {f"{CHEAP}.csv": b"old"}
    assert capsys.readouterr().err.count("\n") == 1


def test_an_error_inside_a_figure_names_it(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_load", failing(ZeroDivisionError("in the figure")))
    with pytest.raises(ZeroDivisionError) as caught:
        run("--only", CHEAP, "--out", tmp_path)
    assert CHEAP in caught.value.__notes__[0]


def test_the_gallery_makes_a_small_picture_of_a_table(built, tmp_path):
    gallery.write_picture(CHEAP, built, tmp_path)
    assert 5_000 < (tmp_path / f"{CHEAP}.png").stat().st_size < 100_000


def test_a_hurry_ends_with_its_sweep():
    """Few optimisations while the sweep runs, and the user's again after it, though it failed."""
    option, seen = "jax_disable_most_optimizations", []

    def failing(_wanted):
        seen.append(jax.config.read(option))
        raise KeyboardInterrupt

    before = jax.config.read(option)
    with pytest.raises(KeyboardInterrupt):
        swept_in_a_hurry(failing, None)
    assert seen == [True]
    assert jax.config.read(option) == before
