"""An update that SageMaker takes back may say nothing of it: asked for as a fault, it leaves no reason."""

from __future__ import annotations

import pytest

from local.sagemaker.instances.fault_injection import Fault, InvalidFaultError, parse_fault
from tests.support.sagemaker import SageMakerHarness, scenario, variant

GUARDED = {
    "BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
    },
    "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]},
}


async def taken_back(harness: SageMakerHarness) -> dict[str, object]:
    """An update that its alarm ends at once; the endpoint afterwards."""
    harness.cloud.in_alarm = {"errors"}
    harness.call("UpdateEndpoint", EndpointName="e", EndpointConfigName="d", DeploymentConfig=GUARDED)
    return await harness.settled()


@scenario
async def test_a_rollback_is_silent_only_where_that_was_asked_for(harness: SageMakerHarness) -> None:
    for name in ("c", "d"):
        harness.model(name)
        harness.config(name, variant(model=name))
    await harness.endpoint()
    assert "errors" in str((await taken_back(harness))["FailureReason"])
    harness.sagemaker.faults.add(Fault("silent_rollback", endpoint="E", times=1))

    silent = await taken_back(harness)

    assert (silent["EndpointStatus"], silent["EndpointConfigName"]) == ("InService", "c")
    assert "FailureReason" not in silent
    assert "errors" in str((await taken_back(harness))["FailureReason"])


def test_the_fault_is_aimed_at_an_endpoint_alone() -> None:
    assert parse_fault(b'{"kind": "silent_rollback", "endpoint": "e"}').endpoint == "e"
    with pytest.raises(InvalidFaultError, match="no field `variant`"):
        parse_fault(b'{"kind": "silent_rollback", "endpoint": "e", "variant": "champion"}')
