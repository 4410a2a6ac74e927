"""Formulas as MathML, which browsers draw themselves: nothing is fetched, and no TeX has to be installed."""

import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

LOGGER = logging.getLogger(__name__)
# What our formulas use and the converter does not know, in words that it does.
SAME = (
    (r"\\([bB]ig)\s*(?=[(\[]|\\lVert|\\langle)", r"\\\1l"),
    (r"\\([bB]ig)\s*(?=[)\]]|\\rVert|\\rangle)", r"\\\1r"),
    (r"\\(tfrac|frac)\s*(\d)(\d)", r"\\\1{\2}{\3}"),
    (r"\\dots(?![a-z])", r"\\ldots"),
    (r"\\iff(?![a-z])", r"\\Longleftrightarrow"),
    (r"\\textstyle(?![a-z])", ""),
)


def convert(tex: str, *, block: bool = False) -> str:
    """The MathML of a formula in LaTeX.

    Raises:
      MathError: the converter does not know a command.
    """
    for pattern, replacement in SAME:
        tex = re.sub(pattern, replacement, tex)
    return tex2mathml(tex, as_block=block)


def _visit(self: HTML5Translator, node: nodes.math | nodes.math_block) -> None:
    block = isinstance(node, nodes.math_block)
    try:
        formula = convert(node.astext(), block=block)
    except MathError as error:
        LOGGER.warning("formula %r: %s", node.astext(), error, location=node)
        formula = node.astext()
    self.body.append(f'<div class="formula">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (_visit, None), (_visit, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
