"""What the function `analysis` does: gather evidence and hand it to the rules. Writes to the ledger alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from pydantic import ValidationError

from contracts import metrics
from contracts.release_tasks import (
    AnalyzeStage,
    CanarySettings,
    Gate,
    GateAnswer,
    GateSettings,
    VerdictAnswer,
    release_prefix,
)
from contracts.report import EvaluationReport
from contracts.routing import CHALLENGER, CHAMPION, Routing
from contracts.training import DATA_CARD_FILE, DataCard
from lambdas.release import rollout
from lambdas.release.analysis import Call, Rating, Traffic, analyze_stage
from lambdas.release.errors import ExperimentMissingError, ReportUnusableError
from lambdas.release.gate import Facts, gate
from lambdas.release.store import Ledger
from lambdas.runtime.metrics import MetricLine

REPORT_FILE = "report.json"
_METRIC_VALUES = {"promote": 1.0, "continue": 0.0, "inconclusive": 0.0, "roll_back": -1.0}


class EvidenceReader(Protocol):
    """Objects by their URI."""

    def read(self, uri: str) -> bytes:
        """The whole object. Raises FileNotFoundError."""

    def sha256(self, uri: str) -> str:
        """The object's SHA-256 in hex. Raises FileNotFoundError."""


class RoutingReader(Protocol):
    """Where the split in force is kept."""

    def read(self) -> Routing | None:
        """The routing item; None where there is none."""


class TrafficSource(Protocol):
    """What callers of one model version got and said."""

    def calls(self, model_version: str, variant: str, since: float) -> Sequence[Call]:
        """Requests since then."""

    def ratings(self, model_version: str, variant: str, since: float) -> Sequence[Rating]:
        """Ratings since then."""


class AnalysisService:
    """The gate and the verdicts of one endpoint's releases."""

    def __init__(
        self,
        endpoint_name: str,
        bucket: str,
        gate_settings: GateSettings,
        canary_settings: CanarySettings,
        files: EvidenceReader,
        routing: RoutingReader,
        traffic: TrafficSource,
        ledger: Ledger,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._endpoint_name = endpoint_name
        self._bucket = bucket
        self._gate_settings = gate_settings
        self._canary_settings = canary_settings
        self._files = files
        self._routing = routing
        self._traffic = traffic
        self._ledger = ledger
        self._clock = clock

    def gate(self, task: Gate) -> GateAnswer:
        """Analyze the offline report. Raises ReportUnusableError without a report or its evidence."""
        uri = (
            task.report_uri
            if task.report_uri.endswith(".json")
            else f"{task.report_uri.rstrip('/')}/{REPORT_FILE}"
        )
        folder = f"s3://{self._bucket}/{release_prefix(task.release_id)}"
        try:
            report = EvaluationReport.model_validate_json(self._files.read(uri))
            card = DataCard.model_validate_json(self._files.read(f"{folder}data/{DATA_CARD_FILE}"))
            facts = Facts(
                champion=task.champion,
                challenger=task.challenger,
                champion_predictions=self._files.sha256(f"{folder}champion/predictions.jsonl"),
                challenger_predictions=self._files.sha256(f"{folder}challenger/predictions.jsonl"),
                heldout_rows=card.heldout.rows,
            )
        except FileNotFoundError as missing:
            raise ReportUnusableError(f"{missing} is not there.") from None
        except ValidationError as error:
            raise ReportUnusableError(f"The {error.title} of this release cannot be read.") from None
        answer = gate(self._gate_settings, report, facts)
        detail = {"report_uri": uri, "champion": task.champion.version, "challenger": task.challenger.version}
        self._ledger.note(task.release_id, "gate", answer.decision, answer.reason, detail)
        return answer

    def verdict(self, task: AnalyzeStage) -> VerdictAnswer:
        """Analyze a stage's traffic. Raises ExperimentMissingError where the split is not this release's."""
        if task.stage >= len(self._canary_settings.shares):
            raise ExperimentMissingError(f"The settings know no stage {task.stage}.")
        routing = self._routing.read()
        versions = {route.name: route.model_version for route in routing.variants} if routing else {}
        if routing is None or routing.experiment != task.release_id or {CHAMPION, CHALLENGER} - set(versions):
            raise ExperimentMissingError(
                "The traffic is not split between champion and challenger by this release."
            )
        champion, challenger = (
            Traffic(
                calls=self._traffic.calls(versions[variant], variant, task.started_at),
                ratings=self._traffic.ratings(versions[variant], variant, task.started_at),
            )
            for variant in (CHAMPION, CHALLENGER)
        )
        evidence = analyze_stage(self._canary_settings, task.stage, champion, challenger)
        elapsed = self._clock() - task.started_at
        answer = rollout.canary_step(self._canary_settings, elapsed, evidence)
        self._publish(versions[CHALLENGER], answer)
        if answer.verdict != "continue":
            detail = answer.observed.model_dump() | {"stage": task.stage, "share": task.share}
            self._ledger.note(task.release_id, "verdict", answer.verdict, answer.reason, detail)
        return answer

    def _publish(self, version: str, answer: VerdictAnswer) -> None:
        line = MetricLine({metrics.DIM_ENDPOINT: self._endpoint_name, metrics.DIM_MODEL_VERSION: version})
        line.add(
            {metrics.RELEASE_VERDICT: (_METRIC_VALUES[answer.verdict], "None")},
            [[metrics.DIM_ENDPOINT], [metrics.DIM_ENDPOINT, metrics.DIM_MODEL_VERSION]],
        )
        line.emit(verdict=answer.verdict)
