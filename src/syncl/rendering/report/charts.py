"""Charts as inline SVG and HTML: no script, no picture files, colours from the page's style sheet.

Run number n is drawn in the colour `--run-n` and, for whom colours are alike, in dashes of its own.
"""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from syncl.rendering.frame_view import Floats

Line = tuple[Floats, Floats]
"""Horizontal and vertical values [K]."""

COLOURS = 7
_DASHES = ("", "6 3", "2 2", "8 3 2 3", "4 4", "1 3", "10 4")
_WIDTH, _HEIGHT = 300, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 8, 10, 34


def legend(names: Sequence[str]) -> str:
    """The runs with their colours and dashes."""
    entries = [
        f'<li><svg class="key" viewBox="0 0 30 10" aria-hidden="true">{_stroke("M0 5H30", number)}</svg>'
        f"{escape(name)}</li>"
        for number, name in enumerate(names)
    ]
    return f'<ul class="legend">{"".join(entries)}</ul>'


def line_chart(
    title: str,
    lines: Mapping[str, Line],
    numbers: Mapping[str, int],
    x_name: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
) -> str:
    """One panel of lines.

    Args:
        title: heading.
        lines: run -> its line; an empty one is left out.
        numbers: run -> its number among all runs, which is its colour.
        x_name: what runs to the right; the title says what runs upwards.
        x_range: of the horizontal axis; None takes it from the lines.
        y_range: likewise.
    """
    shown = {name: line for name, line in lines.items() if len(line[0])}
    if not shown:
        return f"<figure><figcaption>{escape(title)}</figcaption><p class=none>nothing to draw</p></figure>"
    low_x, high_x = x_range or _extent([line[0] for line in shown.values()])
    low_y, high_y = y_range or _extent([line[1] for line in shown.values()])
    across = _WIDTH - _LEFT - _RIGHT
    up = _HEIGHT - _TOP - _BOTTOM

    def place(x: Floats, y: Floats) -> list[tuple[float, float]]:
        right = _LEFT + (x - low_x) / (high_x - low_x) * across
        down = _TOP + (1 - (y - low_y) / (high_y - low_y)) * up
        return list(zip(right.round(1).tolist(), down.round(1).tolist()))

    parts = []
    for value in _ticks(low_y, high_y):
        ((_, y),) = place(np.array([low_x]), np.array([value]))
        parts.append(f'<path class="grid" d="M{_LEFT} {y}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{y + 3.5}" text-anchor="end">{_number(value)}</text>')
    for value in _ticks(low_x, high_x):
        ((x, _),) = place(np.array([value]), np.array([low_y]))
        parts.append(f'<path class="tick" d="M{x} {_HEIGHT - _BOTTOM}v4"/>')
        parts.append(
            f'<text x="{x}" y="{_HEIGHT - _BOTTOM + 15}" text-anchor="middle">{_number(value)}</text>'
        )
    parts.append(f'<path class="axis" d="M{_LEFT} {_HEIGHT - _BOTTOM}H{_WIDTH - _RIGHT}"/>')
    parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 4}" text-anchor="end">{escape(x_name)}</text>')
    for name, (x_values, y_values) in shown.items():
        points = place(x_values, np.clip(y_values, low_y, high_y))
        path = "M" + "L".join(f"{x} {y}" for x, y in points)
        last = (
            f'<circle class="run-{numbers[name] % COLOURS}" cx="{points[-1][0]}" cy="{points[-1][1]}" r="3"/>'
        )
        parts.append(f"<g><title>{escape(name)}</title>{_stroke(path, numbers[name])}{last}</g>")
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg></figure>"
    )


def bars(
    title: str, values: Mapping[str, Mapping[str, float]], classes: Sequence[str], digits: int, most: float
) -> str:
    """One metric class by class, one bar a run.

    Args:
        title: heading.
        values: run -> class -> value; nan leaves the bar out and says so.
        classes: in order.
        digits: of the numbers at the bars.
        most: value of a full bar.
    """
    rows = []
    for name in classes:
        group = []
        for number, (run, of_class) in enumerate(values.items()):
            value = of_class.get(name, float("nan"))
            known = value == value
            share = 100 * min(max(value / most, 0.0), 1.0) if known and most > 0 else 0.0
            text = f"{value:.{digits}f}" if known else "\u2013"
            group.append(
                f'<div class="bar" title="{escape(run)}"><span class="run-{number % COLOURS}" '
                f'style="width:{share:.1f}%"></span><b>{text}</b></div>'
            )
        rows.append(f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{''.join(group)}</dd>")
    return f'<figure><figcaption>{escape(title)}</figcaption><dl class="bars">{"".join(rows)}</dl></figure>'


def _stroke(path: str, number: int) -> str:
    dashes = _DASHES[number % len(_DASHES)]
    pattern = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<path class="line run-{number % COLOURS}"{pattern} d="{path}"/>'


def _extent(columns: Sequence[Floats]) -> tuple[float, float]:
    values = np.concatenate(columns)
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values between two ends."""
    rough = (high - low) / (most - 1)
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first = np.ceil(low / step - 1e-9)
    # Adding zero takes the sign off a negative one.
    return [float(value * step) + 0.0 for value in np.arange(first, np.floor(high / step + 1e-9) + 1)]


def _number(value: float) -> str:
    if abs(value) >= 1000 and value % 100 == 0:
        return f"{value / 1000:g}k"
    return f"{value:.4g}"
