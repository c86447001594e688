"""The sections of the report page, one function each; a section without data is an empty text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from contracts.release_decision import CriterionResult
from contracts.report import EvaluationReport, MetricInfo, MetricResult, PairedComparison, ReportExample
from evaluation.report.formatting import bounds, in_sentence, signed, size
from evaluation.report.plots import curve_plot, histogram_plot, interval_plot
from evaluation.statistics.decision import amount, signed_amount, signed_range

ERROR_RATE = "error_rate"
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
        f"<tr><th scope=row>{escape(_capital(one.title))}</th>"
        f"{_cell('Asked', escape(_goal(one)))}{_cell('Found', _criterion_figures(one))}"
        f'<td class="state {one.state}">{_STATES[one.state]}</td></tr>'
        for one in decision.criteria
    )
    caption = (
        f"All must be met to promote; one shown harmed rolls back. Error budget {100 * decision.alpha:g} %, "
        f"divided over the criteria. {decision.observed:,} of {decision.planned:,} planned observations."
    )
    head = "<th>Criterion</th><th>Asked</th><th>Found</th><th>State</th>"
    return _section("What decided", _table(caption, head, rows))


def metrics_section(report: EvaluationReport) -> str:
    """All metrics over all items, with intervals; for two systems their paired differences as a plot."""
    paired = {one.metric: one for one in report.comparisons if one.slice is None}
    reach = _reaches(report, paired.values())
    rows = {"Quality": "", "Operation": ""}
    for info in report.metrics:
        results = [_result(report, info.name, system.name, None) for system in report.systems]
        if all(result is None for result in results):
            continue
        tag = " <i>decides</i>" if info.name == report.method.primary_metric else ""
        title = f"{escape(info.title)}{tag}<small class=formula>{escape(info.formula)}</small>"
        kind = "Operation" if info.unit == "ms" or info.name == ERROR_RATE else "Quality"
        rows[kind] += _row(report, title, results, paired.get(info.name), info, reach.get(_scale(info), 1.0))
    caption = f"Below each figure its {100 * report.method.level:g} % interval."
    if len(report.systems) == 2:
        caption += " Bars are the intervals of the differences, zero dashed; rows of one kind share a scale."
    return "".join(
        _section(kind, _table(caption, _head(report, "Metric"), text)) for kind, text in rows.items() if text
    )


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
    paired = {name: _primary_comparison(report, name) for name in report.dataset.slices}
    reach = _reaches(report, [one for one in paired.values() if one is not None])
    rows = []
    for name, items in report.dataset.slices.items():
        results = [_result(report, info.name, system.name, name) for system in report.systems]
        title = f"{escape(name)}<small>{items:,} items</small>"
        rows.append(_row(report, title, results, paired[name], info, reach.get(_scale(info), 1.0)))
    caption = f"{info.title} by slice. Some slices differ by chance; few items make rough intervals."
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


def _row(
    report: EvaluationReport,
    title: str,
    results: Sequence[MetricResult | None],
    comparison: PairedComparison | None,
    info: MetricInfo,
    reach: float,
) -> str:
    names = (system.name for system in report.systems)
    cells = "".join(_value_cell(name, result, info) for name, result in zip(names, results, strict=True))
    if len(report.systems) == 2:
        cells += _comparison_cells(comparison, info, reach)
    return f"<tr><th scope=row>{title}</th>{cells}</tr>"


def _reaches(report: EvaluationReport, comparisons: Iterable[PairedComparison]) -> dict[str, float]:
    """How far from zero the intervals of each kind go, so that rows of one kind share a scale."""
    reach: dict[str, float] = {}
    for one in comparisons:
        scale = _scale(_info(report, one.metric))
        reach[scale] = max(reach.get(scale, 0.0), abs(one.interval.low), abs(one.interval.high))
    return {scale: 1.03 * far or 1.0 for scale, far in reach.items()}


def _scale(info: MetricInfo) -> str:
    """Timings of one kind, and the other metrics of one unit, can be drawn on one scale."""
    if info.unit == "ms" or info.name == ERROR_RATE:
        return info.name.split("_")[0]
    return info.unit


def _cell(label: str, content: str) -> str:
    """A table cell; on narrow screens, where the head is gone, it shows its label."""
    return f'<td data-label="{escape(label)}">{content}</td>'


def _value_cell(system: str, result: MetricResult | None, info: MetricInfo) -> str:
    if result is None:
        return _cell(system, "–")
    under = f"<small>{bounds(result.interval, info.unit)}</small>" if result.interval else ""
    return _cell(system, size(result.value, info.unit) + under)


def _comparison_cells(comparison: PairedComparison | None, info: MetricInfo, reach: float) -> str:
    if comparison is None:
        return _cell("Difference", "–") + "<td></td><td></td>"
    state = _state(comparison, info)
    interval = comparison.interval
    difference, limits = signed(comparison.difference, info.unit), bounds(interval, info.unit, sign=True)
    title = f"{info.title}: difference {difference}, interval {limits}"
    plot = interval_plot(comparison.difference, interval.low, interval.high, reach, state, title)
    return (
        f'{_cell("Difference", f"{difference}<small>{limits}</small>")}<td class="chart">{plot}</td>'
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


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _criterion_figures(one: CriterionResult) -> str:
    if one.difference is None or one.interval is None:
        return "not enough data"
    level = f"{100 * one.interval.level:.3g} % interval"
    limits = signed_range(one.interval, one.unit)
    return f"{signed_amount(one.difference, one.unit)}<small>{level} {limits}</small>"


def _example(one: ReportExample, info: MetricInfo) -> str:
    values = [answer.value for answer in one.answers]
    figures = " → ".join("–" if value is None else size(value, info.unit) for value in values)
    where = f" · {escape(one.slice)}" if one.slice else ""
    prompt = f'<div class="whole">{_box("Prompt", one.prompt)}</div>' if one.prompt else ""
    boxes = [("References", "\n— or —\n".join(one.references))] if one.references else []
    boxes += [
        (answer.system, f"[no answer: {answer.error}]" if answer.error is not None else answer.text)
        for answer in one.answers
    ]
    columns = "".join(
        f"<div>{_box(title, text)}</div>" for title, text in boxes if text or title != "Reference"
    )
    return (
        f"<details><summary><b>{escape(one.id)}</b>{where} · {escape(info.title)} {figures}</summary>"
        f'<div class="pair">{prompt}{columns}</div></details>'
    )


def _box(title: str, text: str) -> str:
    return f"<h4>{escape(title)}</h4><pre>{escape(text)}</pre>"


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
