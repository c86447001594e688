"""The serving bench as one SVG: tokens per second and time to first token over the number of clients.

A file of its own colours, readable on white and on dark pages; every line is named at its end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from evaluation.report.plots import Scale, ticks

_WIDTH, _PANEL, _GAP = 1180, 520, 60
_LEFT, _TOP, _FLOOR, _NAMES = 64, 96, 430, 168
_HEIGHT = 500
_INK, _SOFT, _GRID, _PAPER = "#1f2933", "#52606d", "#e4e7eb", "#ffffff"
_COLOURS = ("#0f766e", "#94a3b8", "#b45309", "#7c3aed", "#be185d", "#2563eb", "#64748b", "#15803d", "#a16207")
_OURS = "evergreen"
_LABEL_HEIGHT = 15.0

Row = dict[str, Any]


def draw(rows: Sequence[Row], title: str, note: str) -> str:
    """The picture of closed-loop rows (`bench.serving_report.closed_figures`)."""
    systems = list(dict.fromkeys(row["system"] for row in rows))
    colours = {system: _COLOURS[index % len(_COLOURS)] for index, system in enumerate(systems)}
    levels = sorted({row["clients"] for row in rows})
    rate = _panel(
        rows,
        levels,
        colours,
        left=_LEFT,
        title="Tokens per second, all clients together – higher is better",
        value=lambda row: row["tokens_per_second"]["median"],
        spread=lambda row: (row["tokens_per_second"]["low"], row["tokens_per_second"]["high"]),
        logarithmic=False,
    )
    first = _panel(
        rows,
        levels,
        colours,
        left=_LEFT + _PANEL + _GAP,
        title="Time to first token, p95, seconds – lower is better",
        value=lambda row: row["ttft_ms"]["p95"] / 1000,
        spread=None,
        logarithmic=True,
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" font-family="system-ui, -apple-system, Segoe UI, sans-serif" font-size="12" '
        f'fill="{_SOFT}" role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" rx="10" fill="{_PAPER}"/>'
        f'<text x="{_LEFT - 36}" y="36" font-size="19" font-weight="600" fill="{_INK}">{escape(title)}</text>'
        f'<text x="{_LEFT - 36}" y="57">{escape(note)}</text>{rate}{first}</svg>\n'
    )


def _panel(
    rows: Sequence[Row],
    levels: Sequence[int],
    colours: dict[str, str],
    *,
    left: int,
    title: str,
    value: Callable[[Row], float],
    spread: Callable[[Row], tuple[float, float]] | None,
    logarithmic: bool,
) -> str:
    right = left + _PANEL - _NAMES
    usable = [row for row in rows if row["ttft_ms"]]
    across = Scale(0, max(1, len(levels) - 1), left + 14, right - 10)
    highest = max((value(row) for row in usable), default=1.0)
    lowest = min((value(row) for row in usable), default=0.1)
    up, marks = _upwards(lowest, highest, logarithmic)
    place = (lambda one: up.at(math.log10(one))) if logarithmic else up.at
    parts = [f'<text x="{left - 36}" y="{_TOP - 14}" font-weight="600" fill="{_INK}">{escape(title)}</text>']
    for mark in marks:
        y = place(mark)
        parts.append(f'<line x1="{left}" x2="{right}" y1="{y}" y2="{y}" stroke="{_GRID}"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{mark:g}</text>')
    for index, level in enumerate(levels):
        parts.append(f'<text x="{across.at(index)}" y="{_FLOOR + 20}" text-anchor="middle">{level}</text>')
    parts.append(
        f'<text x="{(left + right) / 2}" y="{_FLOOR + 42}" text-anchor="middle">clients at once</text>'
    )
    ends = []
    for system, colour in reversed(colours.items()):  # ours last, so that it lies on top
        own = sorted((row for row in usable if row["system"] == system), key=lambda row: row["clients"])
        if not own:
            continue
        points = [(across.at(levels.index(row["clients"])), place(value(row))) for row in own]
        width = 3.2 if system.startswith(_OURS) else 1.8
        line = " ".join(f"{x},{y}" for x, y in points)
        if spread is not None:
            for (x, _), row in zip(points, own, strict=True):
                low, high = spread(row)
                parts.append(
                    f'<line x1="{x}" x2="{x}" y1="{place(low)}" y2="{place(high)}" stroke="{colour}" '
                    'stroke-opacity="0.45" stroke-width="5" stroke-linecap="round"/>'
                )
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{width}" '
            'stroke-linejoin="round" stroke-linecap="round"/>'
        )
        parts += [f'<circle cx="{x}" cy="{y}" r="{width + 0.6}" fill="{colour}"/>' for x, y in points]
        ends.append((points[-1], system, colour))
    return "".join(parts) + _names(ends, right)


def _upwards(lowest: float, highest: float, logarithmic: bool) -> tuple[Scale, list[float]]:
    if not logarithmic:
        marks = ticks(0, highest * 1.05, 6)
        return Scale(0, max(highest * 1.08, marks[-1]), _FLOOR, _TOP), marks
    low, high = math.floor(math.log10(lowest)), math.ceil(math.log10(highest))
    scale = Scale(low, max(high, low + 1), _FLOOR, _TOP)
    return scale, [10.0**power for power in range(low, max(high, low + 1) + 1)]


def _names(ends: Sequence[tuple[tuple[float, float], str, str]], right: float) -> str:
    """The lines' names beside their ends, pushed apart where they would overlap."""
    parts: list[str] = []
    ordered = sorted(ends, key=lambda end: end[0][1])
    places: list[float] = []
    for (_, y), _, _ in ordered:
        places.append(max(y, places[-1] + _LABEL_HEIGHT) if places else y)
    below = float(_FLOOR)  # no name beneath the axis: those that would be push the ones above up
    for index in reversed(range(len(places))):
        places[index] = min(places[index], below)
        below = places[index] - _LABEL_HEIGHT
    for at, ((x, y), name, colour) in zip(places, ordered, strict=True):
        weight = "700" if name.startswith(_OURS) else "400"
        parts.append(
            f'<polyline points="{x + 6},{y} {right + 8},{at} {right + 14},{at}" fill="none" '
            f'stroke="{colour}" stroke-opacity="0.5" stroke-dasharray="1 3"/>'
            f'<text x="{right + 18}" y="{at + 4:.1f}" fill="{colour}" font-weight="{weight}">'
            f"{escape(name)}</text>"
        )
    return "".join(parts)
