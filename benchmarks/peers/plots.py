"""Plots as SVG, small and readable on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

_WIDTH = 760
_TEXT = "#7a8089"
_OURS = "#009485"
_COLOURS = (
    *("#7a8089", "#009485", "#4caf50", "#00695c", "#ef6c00", "#8e44ad", "#c0392b", "#2f6fdb", "#1b3f8b"),
    *("#b8860b", "#d81b60", "#5d4037", "#00acc1"),
)


def bars(values: Mapping[str, float], title: str, *, logarithmic: bool = False) -> str:
    """Return horizontal bars, those of this library in its colour.

    Args:
        values: By system.
        title: What they are.
        logarithmic: Whether tenfold means the same step everywhere; the axis begins at 0.1.
    """
    label_width, row_height, top = 330, 26, 34
    room = _WIDTH - label_width - 80
    scaled = {name: _log(value) if logarithmic else value for name, value in values.items()}
    most = max(scaled.values()) or 1.0
    parts = [_text(0, 18, title, bold=True)]
    for number, (name, value) in enumerate(values.items()):
        y = top + number * row_height
        width = max(2.0, room * scaled[name] / most)
        colour = _OURS if name.startswith("this library") else _TEXT
        parts.append(_text(label_width - 8, y + 14, name, anchor="end"))
        parts.append(f'<rect x="{label_width}" y="{y}" width="{width:.1f}" height="18" rx="2" fill="{colour}"/>')
        parts.append(_text(label_width + width + 6, y + 14, _number(value)))
    return _svg(parts, top + len(values) * row_height + 4, title)


def lines(series: Mapping[str, Sequence[tuple[int, float]]], title: str) -> str:
    """Return one line for each system, both axes logarithmic.

    Args:
        series: Points by system.
        title: What they are.
    """
    left, top, width, height = 60, 36, 420, 300
    points = [point for one in series.values() for point in one]
    x_low, x_high = _decades([x for x, _ in points])
    y_low, y_high = _decades([y for _, y in points])

    def at(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - x_low) / (x_high - x_low)
        up = (math.log10(y) - y_low) / (y_high - y_low)
        return left + width * across, top + height * (1 - up)

    parts = [_text(0, 18, title, bold=True)]
    for power in range(x_low, x_high + 1):
        x, _ = at(10**power, 10**y_low)
        parts.append(_line(x, top, x, top + height))
        parts.append(_text(x, top + height + 18, f"{10**power:,}", anchor="middle"))
    for power in range(y_low, y_high + 1):
        _, y = at(10**x_low, 10.0**power)
        parts.append(_line(left, y, left + width, y))
        parts.append(_text(left - 8, y + 4, f"{10.0**power:,g}", anchor="end"))
    for number, (name, one) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in one))
        parts.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = top + 8 + 22 * number
        parts.append(f'<rect x="{left + width + 16}" y="{y - 8}" width="12" height="4" fill="{colour}"/>')
        parts.append(_text(left + width + 34, y, name, size=11))
    return _svg(parts, top + height + 30, title)


def _log(value: float) -> float:
    return max(0.0, math.log10(max(value, 0.1)) + 1)


def _decades(values: Sequence[float]) -> tuple[int, int]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{_TEXT}" stroke-opacity="0.3"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", bold: bool = False, size: int = 13) -> str:
    weight = ' font-weight="600"' if bold else ""
    where = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text {where} fill="{_TEXT}"{weight}>{escape(text)}</text>'


def _svg(parts: Sequence[str], height: float, title: str) -> str:
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}" role="img" '
        f'font-family="system-ui, sans-serif" aria-label="{escape(title)}">'
    )
    return "\n".join([opening, *parts, "</svg>"]) + "\n"
