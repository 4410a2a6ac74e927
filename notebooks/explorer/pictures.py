"""The explorer's pictures, as SVG text: sharp on a phone, quick to make, and read out by their labels.

Colours of Okabe and Ito's palette, and a shape besides: squares and full lines are the chosen response or a positive
number, circles and dashed lines the rejected one or a negative number, triangles the chosen response in a crowd. Text
takes the colour of the page. What leaves a fixed scale stands at its edge.
"""

import math
from collections.abc import Sequence
from html import escape

import numpy as np

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
WIDTH = 360  # units of every picture; about the pixels of a phone
LOOKS = {
    "chosen": (BLUE, ""),
    "rejected": (ORANGE, 'stroke-dasharray="6 3"'),
    "crowd": (GREEN, 'stroke-dasharray="8 3 2 3"'),
}
SIDES = ("chosen", "rejected")
WIDEST_SLOPE = 2  # slopes and changes from −2 to 2, in units of d_l: the same scale for every setting
WIDEST_RATIO = 100.0  # d_w/d_l from 1/100 to 100 fit the picture of the band


def mark(side: str) -> str:
    """The sign of a side, to stand in a line of text."""
    return f'<svg class="mark" viewBox="0 0 12 12" aria-hidden="true">{_mark(side, 6, 6, 6)}</svg>'


def along(
    chosen: Sequence[float], rejected: Sequence[float], n: int, longest: float, crowd: Sequence[float] = ()
) -> str:
    """Slopes of pairs of 0, 1, … shared tokens, that of n on each curve, and L* where it is in the picture."""

    def right(tokens: float) -> float:
        return 30 + 322 * tokens / (len(chosen) - 1)

    def height(slope: float, reach: float = WIDEST_SLOPE) -> float:
        return 108 - 44 * min(max(slope, -reach), reach)

    parts = [_line(30, 20, 30, 196), _text(191, 226, "shared tokens n", "middle")]
    for slope in range(-WIDEST_SLOPE, WIDEST_SLOPE + 1):
        parts += [
            _line(27, height(slope), 30 if slope else 352, height(slope)),
            _text(24, height(slope) + 4, _signed(slope), "end"),
        ]
    for tokens in range(0, len(chosen), 10):
        parts += [_line(right(tokens), 196, right(tokens), 199), _text(right(tokens), 212, str(tokens), "middle")]
    if longest <= len(chosen) - 1:
        parts.append(_line(right(longest), 20, right(longest), 196, 'stroke-dasharray="2 3"'))
        parts.append(_text(right(longest), 13, f"L* = {longest:.2f}", "middle"))
    parts.append(_line(right(n), 20, right(n), 196, 'stroke-opacity="0.4"'))
    curves = {"chosen": chosen, "rejected": rejected} | ({"crowd": crowd} if len(crowd) else {})
    lines = [
        _polyline(side, [(right(tokens), height(slope, 99)) for tokens, slope in enumerate(slopes)])
        for side, slopes in curves.items()
    ]
    parts.append(f'<svg x="30" y="20" width="322" height="176" viewBox="30 20 322 176">{"".join(lines)}</svg>')  # clips
    for side, slopes in curves.items():
        parts.append(_mark(side, right(n), height(slopes[n]), 6))
    words = ", ".join(f"{side} {_signed(slopes[n])}" for side, slopes in curves.items())
    return _picture(f"Slopes, in units of d_l, at {n} shared tokens: {words}.", 230, parts)


def changes(predicted: Sequence[float], measured: Sequence[float]) -> str:
    """Both log-probabilities' changes over one step: a hollow bar as predicted to first order, a mark as it is."""
    middle, reach = 210, 70  # a unit of change

    def place(value: float) -> float:
        return middle + reach * min(max(value, -WIDEST_SLOPE), WIDEST_SLOPE)

    parts = [_line(middle, 8, middle, 92)]
    parts += [_text(place(tick), 106, _signed(tick), "middle") for tick in range(-WIDEST_SLOPE, WIDEST_SLOPE + 1)]
    for row, side in enumerate(SIDES):
        y = 30 + 40 * row
        first, true = place(predicted[row]), place(measured[row])
        parts += [
            _text(0, y + 4, side),
            f'<rect x="{min(first, middle):.2f}" y="{y - 12}" width="{abs(first - middle):.2f}" height="24" '
            f'fill="none" stroke="{LOOKS[side][0]}" stroke-width="2"/>',
            _mark(side, true, y, 6),
        ]
    words = ", ".join(
        f"{side} {_signed(measured[row])} (first order {_signed(predicted[row])})" for row, side in enumerate(SIDES)
    )
    return _picture(f"Change of the log-probabilities over η d_l: {words}.", 112, parts)


def band(low: float, high: float, ratio: float) -> str:
    """The ratios d_w/d_l that raise the chosen and lower the rejected, on a log scale, and the pair's own."""

    def place(value: float) -> float:
        inside = min(max(value, 1 / WIDEST_RATIO), WIDEST_RATIO)
        return 20 + 320 * (0.5 + math.log(inside) / math.log(WIDEST_RATIO) / 2)

    parts = [_line(20, 62, 340, 62)]
    for tick in (0.01, 0.1, 1, 10, 100):
        parts += [_line(place(tick), 62, place(tick), 67), _text(place(tick), 80, f"{tick:g}", "middle")]
    words = "No ratio raises the chosen and lowers the rejected: a gradient is zero."
    if not math.isnan(low):
        left, right = place(low), place(high)
        words = f"d_w/d_l from {low:.3g} to {'infinity' if math.isinf(high) else f'{high:.3g}'} separates the pair"
        parts.append(
            f'<rect x="{left:.2f}" y="34" width="{max(right - left, 1):.2f}" height="20" fill="{BLUE}" '
            'fill-opacity="0.35" stroke="currentColor"/>'
        )
        parts += [_text(20, 24, "both down")] if left > 90 else []
        parts += [_text(340, 24, "both up", "end")] if right < 280 else []
        parts.append(_text(min(max((left + right) / 2, 60), 300), 24, "separates", "middle"))
    if ratio > 0 and math.isfinite(ratio):
        x = place(ratio)
        parts.append(f'<path d="M{x:.2f} 36l7 8l-7 8l-7 -8z" fill="currentColor" stroke="white"/>')
        words += f"; the pair is at {ratio:.3g}"
    return _picture(f"{words.removesuffix('.')}.", 84, parts)


def token_map(values: np.ndarray, chosen: Sequence[str], rejected: Sequence[str]) -> str:
    """⟨∇ log p(y_w^i), ∇ log p(y_l^j)⟩ as areas: squares where positive, circles where negative."""
    rows, columns = values.shape
    largest = abs(values).max() or 1.0
    cell = min(28.0, (WIDTH - 30) / columns)
    parts = [_text(30 + cell * columns / 2, 10, "rejected tokens", "middle")]
    parts.append(f'<g transform="rotate(-90)">{_text(-(32 + cell * rows / 2), 9, "chosen tokens", "middle")}</g>')
    every = math.ceil(11 / cell)  # token that has room for its label
    for i in range(0, rows, every):
        parts.append(_text(27, 32 + cell * (i + 0.5) + 3, chosen[i], "end", 9))
    for j in range(0, columns, every):
        parts.append(_text(30 + cell * (j + 0.5), 27, rejected[j], "middle", 9))
    parts.append(
        f'<rect x="30" y="32" width="{cell * columns:.2f}" height="{cell * rows:.2f}" fill="none" '
        'stroke="currentColor" stroke-opacity="0.4"/>'
    )
    for i, j in np.argwhere(abs(values) > largest * 1e-4):  # smaller ones would not be seen
        size = cell / 2 * 0.95 * math.sqrt(abs(values[i, j]) / largest)
        side = "chosen" if values[i, j] > 0 else "rejected"
        parts.append(_mark(side, 30 + cell * (j + 0.5), 32 + cell * (i + 0.5), size))
    words = f"{rows} chosen by {columns} rejected tokens, from {values.min():.3g} to {values.max():.3g}"
    return _picture(f"Inner products of token gradients: {words}, sum {values.sum():.4g}.", 36 + cell * rows, parts)


def curves(chosen: np.ndarray, rejected: np.ndarray) -> str:
    """Both log-probabilities minus where they began, at every state of a training."""
    lines = {side: logps - logps[0] for side, logps in zip(SIDES, (chosen, rejected), strict=True)}
    steps = len(chosen) - 1
    low, high = (float(extreme(list(lines.values()))) for extreme in (np.min, np.max))
    scale = 130 / ((high - low) or 1.0)

    def height(value: float) -> float:
        return 20 + scale * (high - value)

    parts = [_line(48, 14, 48, 156), _line(48, height(0), 350, height(0), 'stroke-opacity="0.4"')]
    parts += [_text(44, height(value) + 4, _signed(value), "end", 10) for value in {low, high}]
    parts += [_text(48, 170, "0", "middle"), _text(350, 170, f"{steps} steps", "end")]
    for side, line in lines.items():
        states = np.unique(np.linspace(0, steps, 101).astype(int))
        points = [(48 + 300 * state / max(steps, 1), height(line[state])) for state in states]
        parts.append(_polyline(side, points))
        parts.append(_mark(side, *points[-1], 5))
    ends = ", ".join(f"{side} {_signed(line[-1])}" for side, line in lines.items())
    return _picture(f"Change of the log-probabilities over {steps} steps, in nats: {ends}.", 176, parts)


def _picture(label: str, height: float, parts: list[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, style: str = "") -> str:
    return f'<line x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}" stroke="currentColor" {style}/>'


def _polyline(side: str, points: list[tuple[float, float]]) -> str:
    colour, dashes = LOOKS[side]
    return (
        f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" fill="none" stroke="{colour}" '
        f'stroke-width="2.5" {dashes}/>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}" font-size="{size}" fill="currentColor">'
        f"{escape(text)}</text>"
    )


def _mark(side: str, x: float, y: float, size: float) -> str:
    """A square, a circle or a triangle of one area."""
    colour, _ = LOOKS[side]
    if side == "chosen":
        return (
            f'<rect x="{x - size * 0.886:.2f}" y="{y - size * 0.886:.2f}" width="{size * 1.772:.2f}" '
            f'height="{size * 1.772:.2f}" fill="{colour}"/>'
        )
    if side == "crowd":
        path = f"M{x:.2f} {y - size * 1.556:.2f}l{size * 1.347:.2f} {size * 2.333:.2f}h{-size * 2.694:.2f}z"
        return f'<path d="{path}" fill="{colour}"/>'
    return f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{size:.2f}" fill="{colour}"/>'


def _signed(value: float) -> str:
    return f"{value:+.3g}".replace("-", "−").replace("inf", "infinity") if value else "0"
