"""Entry of the function `analysis`: the gate and the verdicts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from contracts.release_tasks import ANALYSIS_TASKS, AnyAnalysisTask, Gate
from lambdas.aws.dynamodb import DynamoDB
from lambdas.release.analysis_tasks import AnalysisService
from lambdas.release.aws.artefacts import ArtefactFiles
from lambdas.release.aws.clients import client
from lambdas.release.dispatch import run
from lambdas.release.environment import AnalysisEnvironment
from lambdas.release.store import Ledger, RoutingTable, TrafficTable
from lambdas.runtime.environment import load
from lambdas.runtime.logs import Logger


class AnalysisFunction:
    """The function against AWS."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        settings = load(AnalysisEnvironment, variables)
        tables = DynamoDB()
        self._logger = Logger("analysis", settings.log_level)
        self._ledger = Ledger(settings.ledger_table, tables)
        self._service = AnalysisService(
            settings.endpoint_name,
            settings.artefacts_bucket,
            settings.gate,
            settings.canary,
            ArtefactFiles(settings.artefacts_bucket, client("s3")),
            RoutingTable(settings.access_table, settings.endpoint_name, tables),
            TrafficTable(settings.records_table, tables),
            self._ledger,
        )

    def __call__(self, event: dict[str, Any]) -> dict[str, Any]:
        """The answer to one event."""
        return run(event, ANALYSIS_TASKS, self._answer, self._ledger, self._logger)

    def _answer(self, task: AnyAnalysisTask) -> BaseModel:
        return self._service.gate(task) if isinstance(task, Gate) else self._service.verdict(task)


_analysis = AnalysisFunction(os.environ)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Do the event's task (contracts.release_tasks). Step Functions sees an exception by its class's name."""
    return _analysis(event)
