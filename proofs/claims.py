"""Read claims.toml, and write the page CLAIMS.md from it: `python -m proofs.claims`, which needs Coq.

For each label it has the statement, its source, what is proved, and where to find it: Coq, a proof in words, the
function of `toymodel.theory`, the tests, the figures.
"""

import re
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from proofs.coq import compile_project, printed_statements
from proofs.statements import HERE, Statement, all_statements

PAGE = HERE / "CLAIMS.md"
SOURCES = {
    "paper": "the paper's statement",
    "exact form": "our exact form of what the paper says in words or under assumptions",
    "ours": "ours",
    "neighbour": "of related work",
}
MARKS = {"paper": "P", "exact form": "P′", "ours": "N", "neighbour": "N"}
STATUSES = ("proved", "proved in part", "tested only")
HEAD = """# Claims

Every label, with what is proved of it and where to see it. Made by `python -m proofs.claims` from
[claims.toml](claims.toml) and the Coq sources; a test fails when it is out of date.

P: the paper's statement. P′: our exact form of what the paper says in words or under assumptions. N: ours, or of
related work, which the label's section names. We could not read the paper's body. So we do not know a condition in its
third section, its result on several tokens with learnable logits (T7 and T8 may overlap it), or the formulas of its two
remedies, which summaries name (T17, T18).

Statements in Coq are quoted as Coq prints them, with every variable and hypothesis, and `make proofs` has Coq read them
again and prints the axioms that they rest on. They speak of real numbers; that code computes them is tested;
[README.md](README.md) has the scope of each. `toymodel check` compares every label with a measurement on fresh draws.
"""
FOOT = """
T1–T8, T12, T14, T22 and T25 are exact for linear softmax models. T9–T11, T20 and T21 are algebra on Gram entries, for
any model. What networks do beyond one small step is measured, not predicted; T23 says which training tokens did it.

Assumptions that matter, each with a counterexample in the tests:

- T3's increment needs the context to occur once in the chosen answer.
- T5's slopes need shared contexts that are orthogonal to all others, as in prefix and positional models. In a unigram
  model shared tokens can lower the chosen under DPO.
- T10's impossible case needs positive weights. With other signs another case is impossible.
- T12 needs log π to be concave in the parameters.
- T14 needs the initial policy as the reference, and one differing token.
- T22 needs balanced labels, and suffix contexts that are orthogonal over positions.
- T26 needs a fair coin and fixed weights.
"""


def load() -> dict[str, dict[str, Any]]:
    """The table of every label."""
    return tomllib.loads((HERE / "claims.toml").read_text(encoding="utf-8"))


def labels_of_theorems() -> dict[str, list[str]]:
    """Labels that list a theorem, by its `Module.name`."""
    labels: dict[str, list[str]] = {}
    for label, claim in load().items():
        for name in claim["theorems"]:
            labels.setdefault(name, []).append(label)
    return labels


def quotes() -> dict[str, str]:
    """Statements that CLAIMS.md quotes, by `Module.name`."""
    quoted = re.findall(
        r"\[`([\w.']+)`\]\([^)]*\):?\n\n```coq\n(.*?)\n```", PAGE.read_text(encoding="utf-8"), re.DOTALL
    )
    return dict(quoted)


def printed() -> dict[str, str]:
    """What `quotes` should be, by Coq."""
    with tempfile.TemporaryDirectory() as build:
        compile_project(Path(build))
        return printed_statements(all_statements(), Path(build))


def page(texts: dict[str, str]) -> str:
    """The text of CLAIMS.md with these statements, by `Module.name`."""
    claims, found = load(), {statement.full_name: statement for statement in all_statements()}
    rows = ["| Label | Claim | Whose | Status | Seen in |", "|---|---|---|---|---|"]
    rows += [
        f"| [{label}](#{label.lower()}) | {claim['words']} | {MARKS[claim['source']]} | {claim['status']} "
        f"| {', '.join(map(_link_place, claim['seen']))} |"
        for label, claim in claims.items()
    ]
    sections = (_write_section(label, claim, found, texts) for label, claim in claims.items())
    return "\n".join([HEAD, *rows, FOOT, *sections])


def _write_section(label: str, claim: dict[str, Any], found: dict[str, Statement], texts: dict[str, str]) -> str:
    status = f"{claim['status']}: {claim['open']}" if claim.get("open") else claim["status"]
    source = SOURCES[claim["source"]] + (f" ({claim['where']})" if claim.get("where") else "")
    lines = [f"## {label}", "", claim["words"] + ".", "", "```math", claim["formula"].strip(), "```", ""]
    lines += [f"- Source: {source}.", f"- Status: {status}."]
    lines += [f"- Proof in words: [{label}.md]({label}.md)."]
    lines += [f"- Predicted by: {_link_code(f'toymodel.theory.{name}' for name in claim['predictions'])}."]
    lines += [f"- Tests: {', '.join(map(_link_test, claim['tests']))}."]
    lines += [f"- Seen in: {', '.join(map(_link_place, claim['seen']))}.", ""]
    if claim["theorems"]:
        first, *others = (found[name] for name in claim["theorems"])
        lines += [f"In Coq, {_link_theorem(first)}:", "", "```coq", texts[first.full_name], "```", ""]
        if others:
            lines += ["<details><summary>Further statements</summary>", ""]
            for other in others:
                lines += [_link_theorem(other), "", "```coq", texts[other.full_name], "```", ""]
            lines += ["</details>", ""]
    return "\n".join(lines)


def _link_code(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _link_theorem(statement: Statement) -> str:
    return f"[`{statement.full_name}`]({statement.module}.v#L{statement.line})"


def _link_test(name: str) -> str:
    file, _, test = name.partition("::")
    return f"[`{test}`](../tests/{file})"


def _link_place(name: str) -> str:
    """Link a figure by name, or a file of this repository."""
    return f"[{name}](../figures/{name}.py)" if name.startswith("fig_") else f"[{Path(name).name}](../{name})"


if __name__ == "__main__":
    PAGE.write_text(page(printed()), encoding="utf-8")
