"""Two model versions side by side, by the evaluation reports that their releases left. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.interval import Interval
from contracts.report import EvaluationReport, MetricResult, PairedComparison
from operations.progress import CommandError
from operations.release_history import RegisteredModel

_DIGITS = 4


@dataclass(frozen=True)
class VersionReport:
    """A version in a report: the candidate that was judged, or the baseline that it was judged against."""

    version: str
    report: EvaluationReport
    role: str

    @property
    def system(self) -> str:
        """The system's name in the report."""
        return next(system.name for system in self.report.systems if system.role == self.role)

    def results(self) -> dict[str, MetricResult]:
        """Its metrics over all items."""
        return {
            result.metric: result
            for result in self.report.results
            if result.system == self.system and result.slice is None
        }


@dataclass(frozen=True)
class MetricRow:
    """One metric of two versions; `difference` is second minus first, paired where the items are the same."""

    metric: str
    higher_is_better: bool
    first: MetricResult | None
    second: MetricResult | None
    difference: float | None
    interval: Interval | None

    @property
    def verdict(self) -> str:
        """What the difference says: only an interval that leaves zero out says anything."""
        if self.interval is None or self.interval.low <= 0 <= self.interval.high:
            return ""
        rose = self.interval.low > 0
        return "better" if rose is self.higher_is_better else "worse"


def find_registered(name: str, registry: Sequence[RegisteredModel]) -> tuple[RegisteredModel, str]:
    """The package that knows a version, and the version's role in its report.

    `name` is a version, a release's id or a package's number. Raises CommandError with the names there are.
    """
    for package in registry:
        if name in (package.model.version, package.metadata.get("release_id"), str(package.number)):
            return package, "candidate"
    for package in registry:
        if package.base and name == package.base.version:
            return package, "baseline"
    versions = {package.model.version for package in registry}
    versions |= {package.base.version for package in registry if package.base}
    known = ", ".join(sorted(versions)) or "none yet"
    raise CommandError(f"the registry knows no '{name}'. Versions: {known}.")


def compare(first: VersionReport, second: VersionReport) -> list[MetricRow]:
    """Each metric that either report has, in the reports' order."""
    metrics = {metric.name: metric for metric in [*first.report.metrics, *second.report.metrics]}
    before, after = first.results(), second.results()
    rows = []
    for name, metric in metrics.items():
        one, two = before.get(name), after.get(name)
        paired, sign = _paired(name, first, second)
        difference = two.value - one.value if one and two else None
        interval = None
        if paired is not None:
            difference = sign * paired.difference
            interval = paired.interval if sign > 0 else _negated(paired.interval)
        rows.append(MetricRow(name, metric.higher_is_better, one, two, difference, interval))
    return rows


def table(first: VersionReport, second: VersionReport) -> str:
    """The comparison for a person."""
    rows = compare(first, second)
    width = max([len(row.metric) for row in rows] + [6])
    lines = [f"{'metric':<{width}}  {first.version:>26}  {second.version:>26}  difference"]
    lines += [
        f"{row.metric:<{width}}  {_shown(row.first):>26}  {_shown(row.second):>26}  {_difference(row)}"
        for row in rows
    ]
    if first.report.dataset.digest != second.report.dataset.digest:
        lines.append(
            f"\nThe evaluation sets differ ({first.report.dataset.name}, {first.report.dataset.items} items; "
            f"{second.report.dataset.name}, {second.report.dataset.items} items): the differences are no "
            "comparison. Judge both on one set: make evaluate."
        )
    elif not any(row.interval for row in rows):
        lines.append(
            "\nThe versions were judged in different releases on the same items: a paired comparison would "
            "tell finer."
        )
    return "\n".join(lines)


def _paired(metric: str, first: VersionReport, second: VersionReport) -> tuple[PairedComparison | None, int]:
    """The report's own comparison, where both are in one report, and -1 where it is the other way round."""
    if first.report != second.report or first.role == second.role:
        return None, 1
    found = [row for row in first.report.comparisons if row.metric == metric and row.slice is None]
    return (found[0] if found else None), (1 if second.role == "candidate" else -1)


def _negated(interval: Interval) -> Interval:
    return interval.model_copy(update={"low": -interval.high, "high": -interval.low})


def _shown(result: MetricResult | None) -> str:
    if result is None:
        return "–"
    if result.interval is None:
        return f"{result.value:.{_DIGITS}g}"
    low, high = result.interval.low, result.interval.high
    return f"{result.value:.{_DIGITS}g} [{low:.{_DIGITS}g}, {high:.{_DIGITS}g}]"


def _difference(row: MetricRow) -> str:
    if row.difference is None:
        return "–"
    text = f"{row.difference:+.{_DIGITS}g}"
    if row.interval:
        text += f" [{row.interval.low:+.{_DIGITS}g}, {row.interval.high:+.{_DIGITS}g}]"
    return f"{text} {row.verdict}".rstrip()
