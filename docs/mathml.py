"""Formulas as MathML, which browsers draw themselves: nothing is fetched, and no TeX has to be installed.

Pages that are also read as plain text (captions, docstrings, the README) write g_w, ‖g_w‖² and L*. `PlainMathematics`
sets these as formulas on the site.
"""

import re
from collections.abc import Iterator

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
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
    (r"(?<!\d)\.(?=\d)", "0."),  # a point that stands alone is taken for punctuation
    (r"\^(\*|\{\*\})", r"^{\\ast}"),  # the other star is raised already
    (r"'+", lambda primes: "^{" + r"\prime" * len(primes[0]) + "}"),
    # A norm is one thing: else its power would be the power of the bar.
    (r"(?:\\[bB]igl\s*)?\\lVert(?:(?!\\[lr]Vert).)*?(?:\\[bB]igr\s*)?\\rVert", r"{\g<0>}"),
)
# What browsers would space or stretch otherwise.
SET = (
    (r'<mo(?: class="mathopen")?>([‖⟨⟩])</mo>', r'<mo stretchy="false">\1</mo>'),
    (r'<mo stretchy="false">/</mo>', '<mo lspace="0" rspace="0" stretchy="false">/</mo>'),
    # A sign after nothing, an opening, a comma or a relation belongs to the number that follows.
    (
        r"((?:<m(?:ath|row|td|style)\b[^>]*>|<mo[^>]*>[(\[{⟨,=<>≤≥≠≈∈]</mo>)\s*)<mo>([+−±∓])</mo>",
        r'\1<mo form="prefix">\2</mo>',
    ),
)


def convert(tex: str, *, block: bool = False) -> str:
    """The MathML of a formula in LaTeX.

    Raises:
      MathError: the converter does not know a command.
    """
    for pattern, replacement in SAME:
        tex = re.sub(pattern, replacement, tex, flags=re.DOTALL)
    formula = tex2mathml(tex, as_block=block)
    for pattern, replacement in SET:
        formula = re.sub(pattern, replacement, formula)
    return formula


# --- Mathematics in plain text ---------------------------------------------------------------------------------------

SYMBOL = r"Δ?[a-zA-ZĝĜα-ωΑ-Ω]"
PLAIN = re.compile(
    r"‖[^‖]+‖[²³₁]?"
    r"|⟨[^⟨⟩]+⟩²?"
    rf"|(?<![A-Za-z_]){SYMBOL}[′*]?_(?:ref\b|[A-Za-zα-ω\d]|\{{[^{{}}]+\}})[′²]?(?![A-Za-z\d_])"
    r"|(?<![A-Za-z*])[A-Za-z]\*(?![\w*])"
    r"|(?<![A-Za-z])[α-ω](?![A-Za-z_])"
)
TEX = (
    (r"′", "'"),
    (r"\*", "^*"),
    (r"_ref\b", r"_{\\mathrm{ref}}"),
    (r"‖([^‖]*)‖", r"\\lVert \1 \\rVert"),
    (r"⟨", r"\\langle "),
    (r"⟩", r" \\rangle"),
    (r"∇", r"\\nabla "),
    (r"\blog\b", r"\\log"),
    (r"Σ", r"\\sum"),
    (r"·", r"\\cdot "),
    (r"−", "-"),
    (r"≠", r"\\ne "),
    (r"≤", r"\\le "),
    (r"²", "^2"),
    (r"³", "^3"),
    (r"₁", "_1"),
    (r"⁺", "^+"),
    (r"⁻", "^-"),
    (r"ᵀ", r"^\\top"),
)
CODE = (nodes.literal, nodes.FixedTextElement, nodes.math, addnodes.desc_signature, addnodes.literal_strong)


def tex(plain: str) -> str:
    """A piece of plain mathematics, as `PLAIN` finds it, in LaTeX."""
    for pattern, replacement in TEX:
        plain = re.sub(pattern, replacement, plain)
    return plain


class PlainMathematics(SphinxTransform):
    """Sets the mathematics in running text, code left as it is."""

    default_priority = 800  # when the text is final, before quotes are curled

    def apply(self, **_: object) -> None:
        """Called for every page."""
        for text in list(self.document.findall(nodes.Text)):
            if not _within(text, CODE) and PLAIN.search(text):
                text.parent.replace(text, list(_pieces(text)))


def _within(node: nodes.Node, kinds: tuple[type[nodes.Element], ...]) -> bool:
    return node.parent is not None and (isinstance(node.parent, kinds) or _within(node.parent, kinds))


def _pieces(text: str) -> Iterator[nodes.Node]:
    end = 0
    for found in PLAIN.finditer(text):
        yield nodes.Text(text[end : found.start()])
        yield nodes.math(found[0], tex(found[0]))
        end = found.end()
    yield nodes.Text(text[end:])


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
    app.add_transform(PlainMathematics)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
