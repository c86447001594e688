"""From predictions to an evaluation report: the figures, the decision, the examples.

Pure: takes predictions and the time of day, returns the report; reads and writes no file.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version

import numpy as np

from contracts.predictions import Prediction
from contracts.release_decision import Goal, ReleaseDecision
from contracts.report import Dataset, EvaluatedSystem, EvaluationMethod, EvaluationReport, TimingCurve
from contracts.scripts import UNSPACED
from evaluation.examples import pick_examples
from evaluation.measure import Answers, Measurement, group_numbers, measure
from evaluation.metrics import ALL, Metric
from evaluation.metrics.operation import ERROR_RATE, TIMINGS, cut_share
from evaluation.metrics.text import bleu_metric, signatures
from evaluation.predictions import InputError, SystemPredictions, check_pairing, dataset_digest
from evaluation.report.formatting import article, in_sentence, size
from evaluation.statistics.decision import Criterion, Evidence, allocate_alpha, decide, truncation_reason

MINIMUM_SAMPLE = 30
"""Independent items, or groups, below which a bootstrap interval is too narrow to decide on."""
_UNSPACED_SHARE = 0.05
_NAMED = 5  # items that a note names
PRIMARY_CANDIDATES = ("token_f1", "accuracy", "perplexity")


@dataclass(frozen=True)
class EvaluationSettings:
    """What is asked and how it is computed.

    `quality_margin` is in the primary metric's unit, `latency_margin` relative (0.1 is 10 %), `error_margin`
    a fraction. Above `maximum_cut_share` of either system's answers cut at the limit of tokens, nothing is
    decided. `planned` items (groups, where items come in groups) must be there before a promotion; None
    takes the given set as the plan. `bleu_tokenizer` is sacreBLEU's name of one.
    """

    primary: str | None = None
    goal: Goal = "superior"
    quality_margin: float = 0.0
    latency_metric: str = "duration_mean"
    latency_margin: float = 0.1
    error_margin: float = 0.02
    alpha: float = 0.05
    maximum_cut_share: float = 0.05
    planned: int | None = None
    resamples: int = 4000
    seed: int = 1
    level: float = 0.95
    title: str = "Evaluation"
    bleu_tokenizer: str = "13a"


def evaluate(
    systems: Sequence[SystemPredictions],
    dataset_name: str,
    settings: EvaluationSettings,
    created_at: datetime,
    extra_metrics: Sequence[Metric] = (),
) -> EvaluationReport:
    """The report on one system, or on a baseline and a candidate in this order.

    Raises InputError where the files do not hold the same items or hold nothing that can be judged.
    """
    answers = _answers(systems)
    metrics = [
        metric
        for metric in (*_metrics(settings), *extra_metrics)
        if metric.carried(list(answers.values())).any()
    ]
    primary = _primary(metrics, settings.primary)
    _check_words(primary, answers, settings)
    overall = measure(answers, metrics, resamples=settings.resamples, seed=settings.seed)
    parts = [overall, *_slices(answers, [primary, ERROR_RATE], settings)]
    shown = [_system(one, is_baseline=one is not systems[-1]) for one in systems]
    decision = _decide(overall, primary, settings) if len(systems) == 2 else None
    truncated = truncation_reason({one.name: one.cut_share for one in shown}, settings.maximum_cut_share)
    if decision and truncated:
        decision = decision.model_copy(
            update={"outcome": "inconclusive", "reason": f"Inconclusive: {truncated}."}
        )
    return EvaluationReport(
        title=settings.title,
        created_at=created_at,
        headline=decision.reason if decision else _headline(overall, primary, settings.level),
        systems=shown,
        dataset=_dataset(dataset_name, systems[0].predictions),
        metrics=[metric.info for metric in metrics],
        results=[result for part in parts for result in part.results(settings.level)],
        comparisons=[comparison for part in parts for comparison in part.comparisons(settings.level)],
        timings=_timings(answers),
        examples=pick_examples(
            answers,
            {name: row[primary.name].scores.items for name, row in overall.table.items()},
            higher_is_better=primary.higher_is_better,
            seed=settings.seed,
        ),
        decision=decision,
        method=_method(settings, primary, metrics, answers, grouped=overall.grouped),
    )


def _metrics(settings: EvaluationSettings) -> list[Metric]:
    bleu = bleu_metric(settings.bleu_tokenizer)
    return [bleu if metric.name == bleu.name else metric for metric in ALL]


def _check_words(primary: Metric, answers: Answers, settings: EvaluationSettings) -> None:
    """Refuses to decide by BLEU over words where a script sets no blanks: a sentence would be one word."""
    references = [text for one in next(iter(answers.values())) for text in one.references]
    share = sum(bool(UNSPACED.search(text)) for text in references) / max(1, len(references))
    if primary.name == "bleu" and settings.bleu_tokenizer not in ("zh", "char") and share > _UNSPACED_SHARE:
        raise InputError(
            f"{100 * share:.0f} % of the references are in a script without blanks between words, where BLEU "
            f"over '{settings.bleu_tokenizer}' takes a sentence for a word: give --bleu-tokenizer zh or char"
        )


def _answers(systems: Sequence[SystemPredictions]) -> dict[str, Sequence[Prediction]]:
    """The predictions by system name, over the same items.

    Items that some system failed on lose their times: a system that fails on slow items must not look fast.
    """
    if len(systems) not in (1, 2):
        raise InputError(f"a report covers one system or two, not {len(systems)}")
    if len(systems) == 2:
        check_pairing(*systems)
        if systems[0].name == systems[1].name:
            raise InputError(f"both systems are called '{systems[0].name}': give them names of their own")
    failed = {one.id for system in systems for one in system.predictions if one.error is not None}
    timeless = {"duration_ms": None, "ttft_ms": None}
    return {
        system.name: [
            one.model_copy(update=timeless) if one.id in failed else one for one in system.predictions
        ]
        for system in systems
    }


def _primary(metrics: Sequence[Metric], wanted: str | None) -> Metric:
    known = {metric.name: metric for metric in metrics}
    if wanted is not None and wanted not in known:
        raise InputError(
            f"the primary metric '{wanted}' does not fit these files; these do: {', '.join(known)}"
        )
    for name in [wanted] if wanted else PRIMARY_CANDIDATES:
        if name in known:
            return known[name]
    raise InputError("nothing to judge: no item has references, a label or token_logprobs")


def _slices(answers: Answers, metrics: Sequence[Metric], settings: EvaluationSettings) -> list[Measurement]:
    first = next(iter(answers.values()))
    return [
        measure(
            {system: [one for one in items if one.slice == name] for system, items in answers.items()},
            metrics,
            resamples=settings.resamples,
            seed=settings.seed,
            slice=name,
        )
        for name in sorted({one.slice for one in first if one.slice is not None})
    ]


def _decide(overall: Measurement, primary: Metric, settings: EvaluationSettings) -> ReleaseDecision:
    """Quality, latency where it was measured, and errors, under one error budget."""
    metrics = {name: measured.metric for row in overall.table.values() for name, measured in row.items()}
    criteria = [_criterion(primary, settings.goal, settings.quality_margin)]
    if settings.latency_metric in metrics:
        latency = metrics[settings.latency_metric]
        criteria.append(_criterion(latency, "non_inferior", settings.latency_margin, unit="relative"))
    criteria.append(_criterion(ERROR_RATE, "non_inferior", settings.error_margin))
    shares = allocate_alpha(criteria, settings.alpha)
    evidence = []
    for criterion in criteria:
        found = overall.difference(
            criterion.name, 1 - shares[criterion.name], relative=criterion.unit == "relative"
        )
        known = found.interval is not None and overall.units[criterion.name] >= MINIMUM_SAMPLE
        evidence.append(Evidence(criterion, found.value, found.interval) if known else Evidence(criterion))
    observed = overall.units[primary.name]
    planned = max(MINIMUM_SAMPLE, observed if settings.planned is None else settings.planned)
    return decide(evidence, alpha=settings.alpha, observed=observed, planned=planned)


def _criterion(metric: Metric, goal: Goal, margin: float, unit: str | None = None) -> Criterion:
    return Criterion(
        name=metric.name,
        title=in_sentence(metric.title),
        goal=goal,
        margin=margin,
        higher_is_better=metric.higher_is_better,
        unit=unit or metric.unit,
    )


def _headline(overall: Measurement, primary: Metric, level: float) -> str:
    ((system, row),) = overall.table.items()
    interval = overall.interval(system, primary.name, level)
    value = size(row[primary.name].bootstrap_result.value, primary.unit)
    bounds = ""
    if interval:
        low, high = size(interval.low, primary.unit), size(interval.high, primary.unit)
        bounds = f" ({100 * level:g} % interval {low} to {high})"
    errors = round(overall.items * row[ERROR_RATE.name].bootstrap_result.value)
    title = in_sentence(primary.title)
    items = "1 item" if overall.items == 1 else f"{overall.items} items"
    return (
        f"{system} reaches {article(title)} {title} of {value}{bounds} on {items}, "
        f"{errors or 'none'} of them without an answer."
    )


def _system(one: SystemPredictions, *, is_baseline: bool) -> EvaluatedSystem:
    return EvaluatedSystem(
        name=one.name,
        role="baseline" if is_baseline else "candidate",
        predictions_digest=one.digest,
        errors=sum(prediction.error is not None for prediction in one.predictions),
        cut_share=cut_share(one.predictions),
    )


def _dataset(name: str, predictions: Sequence[Prediction]) -> Dataset:
    groups = group_numbers(predictions)
    return Dataset(
        name=name,
        digest=dataset_digest(predictions),
        items=len(predictions),
        groups=None if groups is None else int(groups.max()) + 1,
        slices=dict(sorted(Counter(one.slice for one in predictions if one.slice is not None).items())),
    )


def _timings(answers: Answers) -> list[TimingCurve]:
    curves = []
    for timing, read in TIMINGS.items():
        for system, items in answers.items():
            times = [time for one in items if (time := read(one)) is not None]
            if times:
                percentiles = [float(value) for value in np.percentile(times, np.arange(101))]
                curves.append(
                    TimingCurve(timing=timing, system=system, items=len(times), percentiles=percentiles)
                )
    return curves


def _left_out(primary: Metric, answers: Answers) -> str:
    """Which items the deciding metric could not read, in words; empty where it read all."""
    first = next(iter(answers.values()))
    carried = primary.carried(list(answers.values()))
    missing = [one.id for one, has in zip(first, carried, strict=True) if not has]
    if not missing or not primary.needs_all:
        return ""
    named = ", ".join(missing[:_NAMED]) + (", …" if len(missing) > _NAMED else "")
    counted = "1 item lacks" if len(missing) == 1 else f"{len(missing)} items lack"
    return f"{counted} what {in_sentence(primary.title)} reads and counts for nothing in it: {named}."


def _method(
    settings: EvaluationSettings,
    primary: Metric,
    metrics: Sequence[Metric],
    answers: Answers,
    *,
    grouped: bool,
) -> EvaluationMethod:
    references = [len(one.references) for one in next(iter(answers.values()))]
    names = {metric.name for metric in metrics}
    signed = signatures(references, settings.bleu_tokenizer)
    notes = [
        "Intervals are for one figure each; the decision divides its error budget over its criteria.",
        "Items that any system failed on count as wrong answers and are left out of all timings.",
    ]
    if grouped:
        notes.append("Items of one group were resampled together.")
    if left_out := _left_out(primary, answers):
        notes.append(left_out)
    return EvaluationMethod(
        resamples=settings.resamples,
        seed=settings.seed,
        level=settings.level,
        primary_metric=primary.name,
        python=platform.python_version(),
        packages={package: version(package) for package in ("numpy", "sacrebleu", "pydantic")},
        signatures={name: text for name, text in signed.items() if name in names},
        notes=notes,
    )
