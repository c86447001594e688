"""Plots as inline SVG: intervals, histograms, curves. Each has a title for screen readers and no script.

Colours come from the page's style sheet by class, so that light and dark both work; shapes and dashes carry
the same distinctions as colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from contracts.report import Bin

_WIDTH, _HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 14, 40


@dataclass(frozen=True)
class Scale:
    """Maps a range of values to a range of the drawing."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Where a value stands, held inside the drawing."""
        span = self.high - self.low or 1.0
        share = min(1.0, max(0.0, (value - self.low) / span))
        return round(self.start + share * (self.end - self.start), 2)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that cover a range: steps of 1, 2 or 5 times a power of ten.

    >>> ticks(0, 96)
    [0.0, 20.0, 40.0, 60.0, 80.0]
    """
    if not high > low:
        return [low]
    step = 1.0
    while step > (high - low) / about:
        step /= 10
    while step * 10 <= (high - low) / about:
        step *= 10
    step *= min((factor for factor in (1, 2, 5, 10) if step * factor >= (high - low) / about), default=10)
    first = -(-low // step)
    return [
        round((first + count) * step, 12) for count in range(int((high - first * step) / step + 1e-9) + 1)
    ]


def interval_plot(estimate: float, low: float, high: float, reach: float, state: str, title: str) -> str:
    """One row of a forest plot: an interval and its estimate on an axis from -reach to +reach, zero marked.

    It stretches with its column; there is no text in it, the row says the figures.
    """
    scale = Scale(-reach, reach, 2, 198)
    left, middle, right = scale.at(low), scale.at(estimate), scale.at(high)
    return (
        '<svg class="forest" viewBox="0 0 200 20" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(title)}">'
        f'<line class="zero" x1="100" y1="0" x2="100" y2="20"/>'
        f'<line class="bar {state}" x1="{left}" y1="10" x2="{right}" y2="10"/>'
        f'<line class="mark {state}" x1="{middle}" y1="4" x2="{middle}" y2="16"/></svg>'
    )


def histogram_plot(bins: Sequence[Bin], title: str, x_label: str, *, higher_is_better: bool) -> str:
    """Bars of item differences; the bar around zero is neutral, the sides say better or worse."""
    highest = max((one.count for one in bins), default=0) or 1
    across = Scale(bins[0].low, bins[-1].high, _LEFT, _WIDTH - _RIGHT)
    up = Scale(0, highest, _HEIGHT - _BOTTOM, _TOP)
    parts = [_axes(across, up, x_label, "items", whole_y=True)]
    for one in bins:
        middle = (one.low + one.high) / 2
        tie = one.low < 0 < one.high
        state = "open" if tie else "good" if (middle > 0) == higher_is_better else "bad"
        left, right, top = across.at(one.low), across.at(one.high), up.at(one.count)
        parts.append(
            f'<rect class="fill {state}" x="{left + 0.5:.2f}" y="{top}" '
            f'width="{max(0.5, right - left - 1):.2f}" height="{_HEIGHT - _BOTTOM - top:.2f}">'
            f"<title>{one.low:.3g} to {one.high:.3g}: {one.count}</title></rect>"
        )
    return _figure(title, "".join(parts))


def curve_plot(curves: Sequence[tuple[str, Sequence[float]]], title: str, x_label: str) -> str:
    """Cumulative shares of items: each curve is a name and its percentiles 0 … 100; the second is dashed.

    The axis ends a little above the highest 99th percentile, so that one straggler does not squeeze the rest.
    """
    end = max(percentiles[99] for _, percentiles in curves) * 1.08 or 1.0
    across = Scale(0, end, _LEFT, _WIDTH - _RIGHT)
    up = Scale(0, 100, _HEIGHT - _BOTTOM, _TOP)
    parts = [_axes(across, up, x_label, "% of answers")]
    for number, (name, percentiles) in enumerate(curves):
        points = " ".join(
            f"{across.at(value)},{up.at(percent)}"
            for percent, value in enumerate(percentiles)
            if value <= end
        )
        parts.append(
            f'<polyline class="curve s{number}" points="{points}"><title>{escape(name)}</title></polyline>'
        )
    return _figure(title, "".join(parts))


def _axes(across: Scale, up: Scale, x_label: str, y_label: str, *, whole_y: bool = False) -> str:
    floor = _HEIGHT - _BOTTOM
    parts = []
    for value in ticks(up.low, up.high, 4):
        if whole_y and value != int(value):
            continue
        y = up.at(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y}" x2="{_WIDTH - _RIGHT}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{value:g}</text>')
    for value in ticks(across.low, across.high):
        x = across.at(value)
        label = f"{value:,g}".replace("-", "−") if abs(value) < 1e6 else f"{value:,.0f}"
        parts.append(f'<line class="tick" x1="{x}" y1="{floor}" x2="{x}" y2="{floor + 4}"/>')
        parts.append(f'<text x="{x}" y="{floor + 17}" text-anchor="middle">{label}</text>')
    parts.append(f'<line class="axis" x1="{_LEFT}" y1="{floor}" x2="{_WIDTH - _RIGHT}" y2="{floor}"/>')
    middle_x, middle_y = (_LEFT + _WIDTH - _RIGHT) / 2, (_TOP + floor) / 2
    parts.append(f'<text x="{middle_x}" y="{_HEIGHT - 5}" text-anchor="middle">{escape(x_label)}</text>')
    turned = f"translate(13 {middle_y}) rotate(-90)"
    parts.append(f'<text transform="{turned}" text-anchor="middle">{escape(y_label)}</text>')
    return "".join(parts)


def _figure(title: str, content: str) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{content}</svg>"
    )
