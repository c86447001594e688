"""What the console shows, read through plain boto3 from the emulator with the operator's credentials."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from local.cloud.clients import OperatorClients
from local.cloud.config import CloudConfig
from local.console import widgets

WINDOW = timedelta(minutes=30)
STACK_PREFIX = "evergreen-"
MAX_EVENTS = 1000


class ConsoleState:
    """Reads one laptop cloud. Every call blocks, so it belongs on a worker thread."""

    def __init__(self, config: CloudConfig) -> None:
        self._home = config.home
        self._client = OperatorClients(config)

    def overview(self) -> dict[str, Any]:
        """Access, endpoint, stacks and the latest release, as the page polls them."""
        outputs = self._outputs()
        return {
            "access": outputs,
            "endpoint": self._endpoint(outputs.get("endpoint_name")),
            "stacks": self._stacks(),
            "release": self._release(outputs.get("refresh_state_machine_arn")),
        }

    def _outputs(self) -> dict[str, Any]:
        path = self._home / "outputs.json"
        outputs: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return outputs

    def _endpoint(self, name: str | None) -> dict[str, Any] | None:
        if not name:
            return None
        try:
            found = self._client("sagemaker").describe_endpoint(EndpointName=name)
        except ClientError:
            return {"name": name, "status": "does not exist", "variants": []}
        return {
            "name": name,
            "status": found["EndpointStatus"],
            "reason": found.get("FailureReason"),
            "variants": [
                {
                    "name": variant["VariantName"],
                    "weight": variant.get("CurrentWeight"),
                    "instances": variant.get("CurrentInstanceCount"),
                    "desired": variant.get("DesiredInstanceCount"),
                }
                for variant in found.get("ProductionVariants", []) + found.get("ShadowProductionVariants", [])
            ],
        }

    def _stacks(self) -> list[dict[str, str]]:
        stacks = self._client("cloudformation").describe_stacks()["Stacks"]
        return [
            {"name": stack["StackName"], "status": stack["StackStatus"]}
            for stack in sorted(stacks, key=lambda stack: stack["StackName"])
            if stack["StackName"].startswith(STACK_PREFIX)
        ]

    def _release(self, machine: str | None) -> dict[str, Any] | None:
        """The newest execution of the refresh loop with the states it has been through."""
        if not machine:
            return None
        client = self._client("stepfunctions")
        newest = client.list_executions(stateMachineArn=machine, maxResults=1)["executions"]
        if not newest:
            return {"status": "never ran", "states": []}
        arn = newest[0]["executionArn"]
        events = client.get_execution_history(executionArn=arn, maxResults=MAX_EVENTS)["events"]
        states = [
            {"name": event["stateEnteredEventDetails"]["name"], "at": event["timestamp"].timestamp()}
            for event in events
            if "stateEnteredEventDetails" in event
        ]
        return {
            "name": newest[0]["name"],
            "status": newest[0]["status"],
            "started": newest[0]["startDate"].timestamp(),
            "states": states,
        }

    def dashboards(self) -> list[dict[str, Any]]:
        """Every deployed dashboard, drawn: its widgets with the last half hour's data."""
        client = self._client("cloudwatch")
        names = [entry["DashboardName"] for entry in client.list_dashboards()["DashboardEntries"]]
        end = datetime.now(UTC)
        drawn = []
        for name in names:
            body = json.loads(client.get_dashboard(DashboardName=name)["DashboardBody"])
            drawn.append({"name": name, "widgets": [self._widget(w, end) for w in body["widgets"]]})
        return drawn

    def _widget(self, widget: dict[str, Any], end: datetime) -> dict[str, Any]:
        kind, properties = widget["type"], widget.get("properties", {})
        shape = {"kind": kind, "width": widget.get("width", 6)}
        if kind == "text":
            return shape | {"markdown": properties.get("markdown", "")}
        if kind == "alarm":
            return shape | {
                "title": properties.get("title", ""),
                "alarms": self._alarms(properties["alarms"]),
            }
        asked = widgets.queries(properties) if kind == "metric" else []
        if not asked:
            return shape | widgets.chart(widget, [])
        try:
            results = self._client("cloudwatch").get_metric_data(
                MetricDataQueries=asked, StartTime=end - WINDOW, EndTime=end
            )["MetricDataResults"]
        except ClientError as refused:
            return shape | widgets.chart(widget, []) | {"error": str(refused)}
        return shape | widgets.chart(widget, results)

    def _alarms(self, arns: list[str]) -> list[dict[str, str]]:
        names = [arn.rpartition(":alarm:")[2] for arn in arns]
        found = self._client("cloudwatch").describe_alarms(
            AlarmNames=names, AlarmTypes=["MetricAlarm", "CompositeAlarm"]
        )
        alarms = found.get("MetricAlarms", []) + found.get("CompositeAlarms", [])
        return [{"name": a["AlarmName"], "state": a["StateValue"]} for a in alarms]
