"""What makes a figure or a stored result stale: code that it really imports. On a copy of the tree."""

import importlib
import inspect
import re
import shutil
import sys
import types
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path

import pytest
import tiny_experiment

from toymodel.experiments import EXPERIMENTS, code
from toymodel.losses import ALIASES, LOSSES
from toymodel.losses.aliases import plain

MADE_UP = """

@loss(ratio="1")
def made_up(beta: Positive = 0.1, zeta: Positive = 2.0) -> Form:
    return Margin(log_sigmoid, scaled(logratio, beta * zeta))
"""


class Tree:
    """A copy of the package and the figures, which `code` takes for the real one."""

    def __init__(self, root):
        self.root = root
        self.figures = sorted((root / "figures").glob("fig_*.py"))

    def hashes(self):
        """The hash of every figure, and of every experiment with each of these losses as the word of its setting."""
        figures = {f.stem: code.hash_of(code.dependencies(f), whole_catalogue=True) for f in self.figures}
        experiments = {
            (name, loss): self.code(self.root / f"{place.partition(':')[0].replace('.', '/')}.py", loss)
            for name, place in EXPERIMENTS.items()
            for loss in ("dpo", "ipo_sum", "simpo")
        }
        return figures, experiments

    @cached_property
    def untouched(self):
        return self.hashes()

    def code(self, file, *words):
        """The code of an experiment whose `measure` is in this file."""
        module = types.ModuleType("an_experiment")
        module.__file__ = str(file)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "an_experiment", module)
            measure = types.FunctionType(tiny_experiment.measure.__code__, {"__name__": "an_experiment"})
            return code.code_hash(code.sources_of(measure), words)

    def users(self, place):
        """The figures that depend on a file."""
        return {figure.stem for figure in self.figures if self.root / place in code.dependencies(figure)}

    @contextmanager
    def edited(self, place, change):
        """With a file changed; what `change` returns must differ from what is there."""
        file = self.root / place
        old = file.read_text(encoding="utf-8")
        new = change(old)
        assert new != old
        file.write_text(new, encoding="utf-8")
        try:
            yield
        finally:
            file.write_text(old, encoding="utf-8")

    def stale_after(self, place, change):
        """Names of the figures, and of experiments with a loss, that are stale when a file is changed."""
        before = self.untouched
        with self.edited(place, change):
            after = self.hashes()
        assert self.hashes() == before
        return tuple({name for name in was if was[name] != now[name]} for was, now in zip(before, after, strict=True))


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree").resolve()
    for name in ("toymodel", "figures"):
        left_out = shutil.ignore_patterns("out", "gallery", "__pycache__")
        shutil.copytree(code.ROOT / name, root / name, ignore=left_out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code, "ROOT", root)
        patch.setattr(code, "CATALOGUE", root / "toymodel" / "losses")
        patch.setattr(code, "RUNS", root / "toymodel" / "sweep" / "program.py")
        yield Tree(root)


def replacing(old, new):
    def change(text):
        assert text.count(old) == 1
        return text.replace(old, new)

    return change


def appending(text):
    return lambda old: old + text


def commented(text):
    return "# a comment\n" + text.replace("\n\n\n", "\n\n\n# another one\n\n\n")


def with_other_docstring(text):
    start = text.index('"""')
    assert start >= 0
    return text[:start] + '"""Another docstring.\n\nOf two paragraphs."""' + text[text.index('"""', start + 3) + 3 :]


def test_a_constant_of_a_helper_makes_the_figures_stale_that_import_it(tree):
    helper = "figures/suffix_runs.py"
    users = tree.users(helper)
    assert 2 <= len(users) < len(tree.figures)
    figures, experiments = tree.stale_after(helper, appending("\nA_CONSTANT = 3\n"))
    assert figures == users
    assert not experiments


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("toymodel/cli.py", commented),
        ("toymodel/cli.py", appending("\nA_CONSTANT = 3\n")),
        ("toymodel/theory/suffix.py", commented),
        ("toymodel/theory/suffix.py", with_other_docstring),
        ("toymodel/gradients/built.py", with_other_docstring),
        ("toymodel/experiments/gram.py", lambda text: re.sub(r'    """Gram entries.*?"""\n', "", text)),
        ("figures/style.py", commented),
        ("figures/captions/fig_case_map.md", appending("\nA typo mended.\n")),
        ("toymodel/commands/sweep.py", appending("\nA_CONSTANT = 3\n")),
        ("toymodel/__init__.pyi", appending("\nfrom .gram import cosine as another\n")),
    ],
)
def test_words_and_commands_make_nothing_stale(tree, place, change):
    assert tree.stale_after(place, change) == (set(), set())


def test_a_loss_that_is_added_makes_those_stale_that_take_the_whole_catalogue(tree):
    figures, experiments = tree.stale_after("toymodel/losses/margins.py", appending(MADE_UP))
    assert not experiments
    takes_all = {path.stem for path in (tree.root / "figures").glob("*.py") if uses_the_catalogue(path)}
    assert figures == {f.stem for f in tree.figures if {path.stem for path in code.dependencies(f)} & takes_all}
    assert 0 < len(figures) < len(tree.figures) / 2


def uses_the_catalogue(path):
    return bool(
        re.search(r"\bLOSSES\b(?!\[\")(?=.*\n)", re.sub(r"^from.*|^import.*", "", path.read_text(), flags=re.M))
    )


SQUARE = "    return Margin(square(1 / (2 * tau)), logratio)\n"


def test_code_of_a_loss_counts_where_it_is_named(tree):
    figures, experiments = tree.stale_after("toymodel/losses/margins.py", replacing(SQUARE, SQUARE.replace("2", "3")))
    with_losses = {key for key in tree.untouched[1] if key[0] != "gram"}
    # Remedies are compared for four losses that their module names, and this is one of them.
    assert experiments == {key for key in with_losses if key[1] == "ipo_sum" or key[0] == "remedies"}
    assert 0 < len(figures) < len(tree.figures)
    assert "fig_training" not in figures  # of DPO alone


def test_code_that_is_imported_counts_and_only_there(tree):
    suffix = "toymodel/theory/suffix.py"
    users = tree.users(suffix)
    assert users
    figures, experiments = tree.stale_after(suffix, appending("\nA_CONSTANT = 3\n"))
    assert figures == users
    assert {name for name, _ in experiments} >= {"gram"}
    assert experiments == {key for key in tree.untouched[1] if key[0] in {name for name, _ in experiments}}


def test_how_results_are_stored_does_not_count_for_them(tree):
    for file in ("store", "runner", "grid", "config", "cluster"):
        assert not tree.stale_after(f"toymodel/sweep/{file}.py", appending("\nA_CONSTANT = 3\n"))[1], file
    _, experiments = tree.stale_after("toymodel/sweep/program.py", appending("\nA_CONSTANT = 3\n"))
    assert experiments == set(tree.untouched[1])


def names_of(files, root):
    return {path.relative_to(root).as_posix() for path in files if path.is_relative_to(root)}


IMPORTS = {
    "a name that is loaded lazily": ("from toymodel import PreferencePairs", "toymodel/data/pairs.py"),
    "an attribute": ("import toymodel as tm\ntm.theory.slopes", "toymodel/theory/condition.py"),
    "without another name": ("import toymodel\nprint(toymodel.train(1))", "toymodel/training/loop.py"),
    "lazily from a room": (
        "from toymodel import models\nmodels.transformer.Transformer",
        "toymodel/models/transformer.py",
    ),
    "through two rooms": ("import toymodel as tm\ntm.models.mlp", "toymodel/models/mlp.py"),
    "in a function": ("def f():\n    from toymodel.sweep import run", "toymodel/sweep/runner.py"),
    "an experiment by name": ("from toymodel.experiments import GRAM", "toymodel/experiments/gram.py"),
    "values beside a module": ("from toymodel.experiments import tuned", "toymodel/experiments/tuned.toml"),
}


@pytest.mark.parametrize(("text", "expected"), IMPORTS.values(), ids=IMPORTS)
def test_imports_of_every_kind_are_followed(tree, tmp_path, text, expected):
    (tmp_path / "mine.py").write_text(text + "\n", encoding="utf-8")
    found = names_of(code.dependencies(tmp_path / "mine.py"), tree.root)
    assert expected in found
    assert "toymodel/cli.py" not in found


def test_nothing_is_followed_that_is_not_used(tree, tmp_path):
    (tmp_path / "mine.py").write_text("from toymodel import PreferencePairs\n", encoding="utf-8")
    found = names_of(code.dependencies(tmp_path / "mine.py"), tree.root)
    assert {name.split("/")[1] for name in found} <= {
        "__init__.py",
        "_checks.py",
        "_public.py",
        "_pytree.py",
        "gram.py",
        "data",
    }


def test_modules_beside_a_configuration_are_followed(tree, tmp_path):
    package = tmp_path / "mine"
    package.mkdir()
    (tmp_path / "helper.py").write_text("import constants\n", encoding="utf-8")
    (tmp_path / "constants.py").write_text("TURNS = 3\n", encoding="utf-8")
    (tmp_path / "other.py").write_text("TURNS = 3\n", encoding="utf-8")
    (tmp_path / "experiment.py").write_text("import helper\nfrom mine import inner\n", encoding="utf-8")
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "inner.py").write_text("from . import near\nfrom .deep import Y\n", encoding="utf-8")
    (package / "near.py").write_text("from mine.further import X\n", encoding="utf-8")
    (package / "further.py").write_text("X = 1\n", encoding="utf-8")
    (package / "deep").mkdir()
    (package / "deep" / "__init__.py").write_text("from ..outer import Y\n", encoding="utf-8")
    (package / "outer.py").write_text("Y = 1\n", encoding="utf-8")
    start = tmp_path / "experiment.py"
    assert names_of(code.dependencies(start), tmp_path.resolve()) == {
        "constants.py",
        "experiment.py",
        "helper.py",
        *(f"mine/{name}.py" for name in ("__init__", "inner", "near", "further", "outer", "deep/__init__")),
    }
    before = tree.code(start)
    (tmp_path / "constants.py").write_text("TURNS = 3  # times\n", encoding="utf-8")
    assert tree.code(start) == before
    (tmp_path / "constants.py").write_text("TURNS = 4\n", encoding="utf-8")
    changed = tree.code(start)
    assert changed != before
    (package / "further.py").write_text("X = 2\n", encoding="utf-8")
    assert tree.code(start) not in (before, changed)


def test_nothing_of_installed_packages_is_read(tree, tmp_path):
    for figure in tree.figures:
        assert all(path.is_relative_to(tree.root) for path in code.dependencies(figure))
    installed = (
        Path(inspect.getfile(pytest)).resolve().parent
    )  # a user's package that is installed: its own modules count
    found = code.dependencies(installed / "__init__.py")
    assert len(found) >= 1
    assert all(path.is_relative_to(installed) for path in found)
    place = tmp_path.resolve() / "site-packages"
    place.mkdir()
    (place / "an_experiment.py").write_text("import another\n", encoding="utf-8")
    (place / "another.py").write_text("X = 1\n", encoding="utf-8")
    assert code.dependencies(place / "an_experiment.py").keys() == {place / "an_experiment.py"}


def test_another_name_of_a_loss_names_it(tree, tmp_path):
    (tmp_path / "mine.py").write_text("from toymodel import LOSSES\nLOSSES['I-PO sum'](tau=1)\n", encoding="utf-8")
    (tmp_path / "other.py").write_text("from toymodel import LOSSES\nLOSSES['RPO'](beta=1)\n", encoding="utf-8")

    def hashes():
        return [code.hash_of(code.dependencies(tmp_path / f"{name}.py")) for name in ("mine", "other")]

    mine, other = hashes()
    with tree.edited("toymodel/losses/margins.py", replacing(SQUARE, SQUARE.replace("2", "3"))):
        assert hashes()[0] != mine
        assert hashes()[1] == other
    another_ratio = partial(re.sub, r'ratio="[^"]*"\)\ndef dpo_nll_mean', 'ratio="?")\ndef dpo_nll_mean')
    with tree.edited("toymodel/losses/margins.py", another_ratio):
        assert hashes()[0] == mine
        assert hashes()[1] != other
    with tree.edited("toymodel/losses/aliases.py", replacing('"rpo": "dpo_nll_mean"', '"rpo": "dpop"')):
        assert hashes()[0] == mine
        assert hashes()[1] != other
    assert (LOSSES["RPO"].name, LOSSES["I-PO sum"].name) == ("dpo_nll_mean", "ipo_sum")
    assert all(code._plain(name) == plain(name) for name in ("I-PO sum", "a_b+c D", *ALIASES, *LOSSES))


def test_a_new_alias_makes_nothing_stale(tree):
    change = replacing('    "bpo": ', '    "made_up": "dpo",\n    "bpo": ')
    assert tree.stale_after("toymodel/losses/aliases.py", change) == (set(), set())


MINE = """from toymodel.experiments import setting
from toymodel.sweep import Experiment, one_of, whole

@setting
class Mine:
    {field}
    seed: int = whole(0, low=0)

def measure(setting):
    return {{"twice": {factor} * setting.seed}}

MINE = Experiment("mine", Mine, measure)
"""


def experiment_of(folder, monkeypatch, factor=2, field=""):
    (folder / "an_experiment_of_mine.py").write_text(MINE.format(factor=factor, field=field), encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "an_experiment_of_mine", raising=False)
    importlib.invalidate_caches()
    return importlib.import_module("an_experiment_of_mine").MINE


def test_files_that_change_while_a_process_runs_do_not_change_what_it_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    mine = experiment_of(tmp_path, monkeypatch)
    before = mine.code()
    text = (tmp_path / "an_experiment_of_mine.py").read_text()
    (tmp_path / "an_experiment_of_mine.py").write_text(text.replace("2 *", "3 *"), encoding="utf-8")
    assert mine.code() == mine.code(["another word"]) == before
    assert experiment_of(tmp_path, monkeypatch, factor=4).code() != before
    assert experiment_of(tmp_path, monkeypatch).code() == before


def test_losses_that_are_options_of_a_traced_word_count(tmp_path, monkeypatch):
    """`measure` gets only their places, so a program holds all of them."""
    found = []
    monkeypatch.setattr("toymodel.experiments.experiment.code_hash", lambda _, words, **__: found.append(words) or "")
    options = '("d" + "po", "s" + "impo")'
    experiment_of(tmp_path, monkeypatch, field=f"loss: str = one_of({options}, 'd' + 'po', as_place=True)").code()
    experiment_of(tmp_path, monkeypatch, field=f"loss: str = one_of({options}, 'd' + 'po')").code(["dpo"])
    assert found == [{"dpo", "simpo"}, {"dpo"}]
