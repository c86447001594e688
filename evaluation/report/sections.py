"""The sections of the report page, one function each; a section without data is an empty text."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from contracts.release import CriterionResult
from contracts.report import EvaluationReport, Example, MetricInfo, MetricResult, PairedComparison
from evaluation.report.plots import curve_plot, histogram_plot, interval_plot
from evaluation.report.words import bounds, in_sentence, signed, size
from evaluation.statistics.decision import amount

_TIMINGS = {"duration": "Latency", "ttft": "Time to first token", "tpot": "Time per output token"}
_STATES = {"met": "✓ met", "harmed": "✗ harmed", "open": "? open"}
_MARKS = {"better": "▲ better", "worse": "▼ worse", "unclear": "○ unclear"}
_KINDS = {"win": "Biggest wins", "loss": "Biggest losses", "sample": "Drawn by lot"}


def criteria_section(report: EvaluationReport) -> str:
    """What the decision asked and what it found."""
    decision = report.decision
    if decision is None:
        return ""
    rows = "".join(
        f"<tr><th scope=row>{escape(one.title[0].upper() + one.title[1:])}</th><td>{escape(_goal(one))}</td>"
        f"<td>{_criterion_figures(one)}</td>"
        f'<td class="state {"undecided" if one.state == "open" else one.state}">{_STATES[one.state]}</td></tr>'
        for one in decision.criteria
    )
    caption = (
        f"All must be met to promote; one shown harmed rolls back. Error budget {100 * decision.alpha:g} %, "
        f"divided over the criteria. {decision.observed:,} of {decision.planned:,} planned items."
    )
    head = "<th>Criterion</th><th>Asked</th><th>Found</th><th>State</th>"
    return _section("What decided", _table(caption, head, rows))


def metrics_section(report: EvaluationReport) -> str:
    """All metrics over all items, with intervals; for two systems their paired differences as a plot."""
    paired = {one.metric: one for one in report.comparisons if one.slice is None}
    rows = []
    for info in report.metrics:
        results = [_result(report, info.name, system.name, None) for system in report.systems]
        if all(result is None for result in results):
            continue
        cells = "".join(_value_cell(result, info) for result in results)
        comparison = paired.get(info.name)
        primary = ' class="primary"' if info.name == report.method.primary_metric else ""
        rows.append(
            f'<tr{primary}><th scope=row>{escape(info.title)}<small class="formula">{escape(info.formula)}</small></th>'
            f"{cells}{_comparison_cells(comparison, info) if len(report.systems) == 2 else ''}</tr>"
        )
    return _section("Metrics", _table(_interval_caption(report), _head(report, "Metric"), "".join(rows)))


def items_section(report: EvaluationReport) -> str:
    """The primary metric's differences item by item."""
    comparison = _primary_comparison(report, None)
    if comparison is None or not comparison.histogram:
        return ""
    info = _info(report, comparison.metric)
    text = (
        f"{escape(comparison.candidate)} is better on {comparison.wins:,} items, worse on "
        f"{comparison.losses:,}, equal on {comparison.ties:,}."
    )
    label = f"difference in {in_sentence(info.title)}, {comparison.candidate} − {comparison.baseline}"
    plot = histogram_plot(
        comparison.histogram, f"Histogram: {label}", label, higher_is_better=info.higher_is_better
    )
    return _section("Item by item", f"<p>{text}</p>{plot}")


def slices_section(report: EvaluationReport) -> str:
    """The primary metric by slice."""
    if not report.dataset.slices:
        return ""
    info = _info(report, report.method.primary_metric)
    rows = []
    for name, items in report.dataset.slices.items():
        results = [_result(report, info.name, system.name, name) for system in report.systems]
        cells = "".join(_value_cell(result, info) for result in results)
        comparison = _primary_comparison(report, name)
        rows.append(
            f"<tr><th scope=row>{escape(name)}<small>{items:,} items</small></th>{cells}"
            f"{_comparison_cells(comparison, info) if len(report.systems) == 2 else ''}</tr>"
        )
    caption = f"{info.title} by slice. With many slices some differ by chance: read these as hints."
    return _section("Slices", _table(escape(caption), _head(report, "Slice"), "".join(rows)))


def timing_section(report: EvaluationReport) -> str:
    """Timings as cumulative curves."""
    if not report.timings:
        return ""
    figures = []
    for timing, title in _TIMINGS.items():
        curves = [(one.system, one.percentiles) for one in report.timings if one.timing == timing]
        if curves:
            plot = curve_plot(curves, f"{title}: share of answers done within a time", "milliseconds")
            figures.append(f"<figure><figcaption>{title}</figcaption>{plot}</figure>")
    keys = "".join(
        f'<span><i class="key s{number}"></i>{escape(system.name)}</span>'
        for number, system in enumerate(report.systems)
    )
    text = "Share of answers that were done within a time; further left is faster."
    return _section(
        "Timings",
        f'<p class=soft>{text}</p><p class="legend">{keys}</p><div class="plots">{"".join(figures)}</div>',
    )


def examples_section(report: EvaluationReport) -> str:
    """Items with their answers, by kind."""
    info = _info(report, report.method.primary_metric)
    parts = []
    for kind, title in _KINDS.items():
        chosen = [one for one in report.examples if one.kind == kind]
        if chosen:
            heading = "Weakest answers" if kind == "loss" and len(report.systems) == 1 else title
            parts.append(f"<h3>{heading}</h3>" + "".join(_example(one, info) for one in chosen))
    return _section("Answers", "".join(parts)) if parts else ""


def method_section(report: EvaluationReport) -> str:
    """How to get the same figures again."""
    method = report.method
    facts = {
        "Intervals": f"{100 * method.level:g} %; {_methods(report)}",
        "Resamples": f"{method.resamples:,}, seed {method.seed}, same for all systems and metrics",
        "Data digest": report.dataset.digest,
        **{f"Answers of {one.name}": one.predictions_digest for one in report.systems},
        **{f"{name} signature": text for name, text in method.signatures.items()},
        "Versions": ", ".join(
            [f"python {method.python}", *(f"{name} {text}" for name, text in method.packages.items())]
        ),
    }
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    notes = "".join(f"<li>{escape(note)}</li>" for note in method.notes)
    return _section("How it was computed", f"<dl>{rows}</dl><ul class=soft>{notes}</ul>")


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>"


def _table(caption: str, head: str, rows: str) -> str:
    return (
        f'<div class="scroll"><table><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _head(report: EvaluationReport, first: str) -> str:
    systems = "".join(f"<th>{escape(one.name)}</th>" for one in report.systems)
    paired = "<th>Difference</th><th></th><th></th>" if len(report.systems) == 2 else ""
    return f"<th>{first}</th>{systems}{paired}"


def _interval_caption(report: EvaluationReport) -> str:
    text = f"Below each figure its {100 * report.method.level:g} % interval."
    if len(report.systems) == 2:
        text += " Each bar is the difference's interval, with zero dashed; every row has a scale of its own."
    return text


def _value_cell(result: MetricResult | None, info: MetricInfo) -> str:
    if result is None:
        return "<td>–</td>"
    under = f"<small>{bounds(result.interval, info.unit)}</small>" if result.interval else ""
    return f"<td>{size(result.value, info.unit)}{under}</td>"


def _comparison_cells(comparison: PairedComparison | None, info: MetricInfo) -> str:
    if comparison is None:
        return "<td>–</td><td></td><td></td>"
    state = _state(comparison, info)
    interval = comparison.interval
    reach = max(abs(interval.low), abs(interval.high), abs(comparison.difference)) * 1.05 or 1.0
    title = f"{info.title}: difference {signed(comparison.difference, info.unit)}, interval {bounds(interval, info.unit, sign=True)}"
    plot = interval_plot(comparison.difference, interval.low, interval.high, reach, state, title)
    return (
        f"<td>{signed(comparison.difference, info.unit)}<small>{bounds(interval, info.unit, sign=True)}</small></td>"
        f'<td class="chart">{plot}</td>'
        f'<td class="state {state}">{_MARKS[state]}<small>p {_p_value(comparison.p_value)}</small></td>'
    )


def _state(comparison: PairedComparison, info: MetricInfo) -> str:
    if comparison.interval.low <= 0 <= comparison.interval.high:
        return "unclear"
    return "better" if (comparison.interval.low > 0) == info.higher_is_better else "worse"


def _p_value(value: float) -> str:
    return "&lt; 0.001" if value < 0.001 else f"{value:.3f}"


def _goal(one: CriterionResult) -> str:
    word = "higher" if one.higher_is_better else "lower"
    if one.goal == "superior":
        return f"{word} by more than {amount(one.margin, one.unit)}" if one.margin else word
    worse = "lower" if one.higher_is_better else "higher"
    return f"at most {amount(one.margin, one.unit)} {worse}" if one.margin else f"not {worse}"


def _criterion_figures(one: CriterionResult) -> str:
    if one.difference is None or one.interval is None:
        return "not enough data"
    level = f"{100 * one.interval.level:.3g} % interval"
    return f"{signed(one.difference, one.unit)}<small>{level} {bounds(one.interval, one.unit, sign=True)}</small>"


def _example(one: Example, info: MetricInfo) -> str:
    values = [answer.value for answer in one.answers]
    figures = " → ".join("–" if value is None else size(value, info.unit) for value in values)
    where = f" · {escape(one.slice)}" if one.slice else ""
    boxes = [("Prompt", one.prompt)] if one.prompt else []
    boxes += [
        (f"Reference {number}" if number > 1 else "Reference", text)
        for number, text in enumerate(one.references, 1)
    ]
    boxes += [
        (answer.system, f"[no answer: {answer.error}]" if answer.error is not None else answer.text)
        for answer in one.answers
    ]
    return (
        f"<details><summary><b>{escape(one.id)}</b>{where} · {escape(info.title)} {figures}</summary>"
        f'<div class="pair">{_boxes(boxes)}</div></details>'
    )


def _boxes(boxes: Iterable[tuple[str, str]]) -> str:
    return "".join(f"<div><h4>{escape(title)}</h4><pre>{escape(text)}</pre></div>" for title, text in boxes)


def _methods(report: EvaluationReport) -> str:
    intervals = [one.interval for one in report.results] + [one.interval for one in report.comparisons]
    return ", ".join(sorted({one.method for one in intervals if one is not None}))


def _result(report: EvaluationReport, metric: str, system: str, slice: str | None) -> MetricResult | None:
    wanted = (metric, system, slice)
    return next((one for one in report.results if (one.metric, one.system, one.slice) == wanted), None)


def _primary_comparison(report: EvaluationReport, slice: str | None) -> PairedComparison | None:
    wanted = (report.method.primary_metric, slice)
    return next((one for one in report.comparisons if (one.metric, one.slice) == wanted), None)


def _info(report: EvaluationReport, name: str) -> MetricInfo:
    return next(one for one in report.metrics if one.name == name)
