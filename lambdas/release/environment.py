"""Variables of the two refresh functions, typed; read once while a function starts."""

from __future__ import annotations

from pydantic import Json

from contracts.release_tasks import CanarySettings, GateSettings, LoopSettings
from lambdas.runtime.function_environment import FunctionEnvironment


class RefreshEnvironment(FunctionEnvironment):
    """Variables of both."""

    endpoint_name: str
    serving_stack: str
    records_table: str
    ledger_table: str
    artefacts_bucket: str
    model_package_group: str


class AnalysisEnvironment(RefreshEnvironment):
    """Variables of `analysis`; the settings' sections as JSON."""

    gate: Json[GateSettings]
    canary: Json[CanarySettings]


class ReleaseEnvironment(RefreshEnvironment):
    """Variables of `release`. The topic may be missing where nobody is asked.

    `autoscaled` says that the champion is a scalable target. Those of `failover` name the second region's
    stack, the state machine that updates it, its region and its bucket; without a stack there is no second
    region.
    """

    loop: Json[LoopSettings]
    approval_topic_arn: str = ""
    autoscaled: bool = False
    failover_stack: str = ""
    failover_update_machine: str = ""
    failover_region: str = ""
    failover_bucket: str = ""
    aws_lambda_function_name: str = "release"
