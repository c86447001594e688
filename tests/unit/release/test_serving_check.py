"""What serves is compared with the stack after each update: one that SageMaker took back is no success."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from contracts import metrics
from lambdas.release.errors import RolledBackError, TopologyFailedError
from tests.support.release_loop import NEW, OLD, ReleaseHarness

ALARM = "evergreen-test-serving-Errors"


def promoted(release: ReleaseHarness) -> None:
    """The stack says that the promotion is done."""
    release.stack.rollback_alarms = [ALARM]
    release.experiment()
    release.invoke("promote", champion=OLD, challenger=NEW)
    release.stack.finish()


def published(output: str) -> list[str]:
    """Names of the metrics that the lines of a function publish."""
    return [
        metric["Name"]
        for line in output.splitlines()
        for directive in json.loads(line).get("_aws", {}).get("CloudWatchMetrics", [])
        for metric in directive["Metrics"]
    ]


def test_given_an_update_that_was_taken_back_in_silence_then_the_loop_names_it_and_its_alarm(
    release: ReleaseHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    promoted(release)
    release.sagemaker.take_back()  # in service, no failure reason, the stack complete
    release.cloudwatch.states = {ALARM: "ALARM", "another": "ALARM"}

    with pytest.raises(RolledBackError) as caught:
        release.invoke("await_topology", phase="ab")

    message = str(caught.value)
    assert "config-1 and not config-2" in message
    assert f"{ALARM} (Threshold Crossed)" in message
    assert "another" not in message
    row = release.rows()[-1]
    assert (row["step"], row["outcome"], row["reason"]) == ("await_topology", "failed", message)
    assert json.loads(row["detail"]) == {"error": "RolledBackError"}
    assert published(capsys.readouterr().out) == [metrics.UPDATES_ROLLED_BACK]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param([("OK to ALARM", 3), ("ALARM to OK", 4)], id="during the update"),
        pytest.param([("OK to ALARM", -3), ("ALARM to OK", 4)], id="from before the update"),
    ],
)
def test_given_an_alarm_that_has_recovered_then_its_history_names_it(
    changes: list[tuple[str, int]], release: ReleaseHarness
) -> None:
    taken_back(release, changes)

    with pytest.raises(RolledBackError, match=rf"In ALARM during the update: {ALARM}"):
        release.invoke("await_topology", phase="ab")


def test_given_an_alarm_of_last_week_then_it_is_not_blamed(release: ReleaseHarness) -> None:
    taken_back(release, [("OK to ALARM", -10_000), ("ALARM to OK", -9_000)])

    with pytest.raises(RolledBackError, match="No rollback alarm was in ALARM"):
        release.invoke("await_topology", phase="ab")


def taken_back(release: ReleaseHarness, changes: list[tuple[str, int]]) -> None:
    """A promotion that SageMaker has taken back; the alarm is OK again and changed so many minutes after the
    update began."""
    promoted(release)
    release.sagemaker.take_back()
    release.cloudwatch.states = {ALARM: "OK"}
    began = release.stack.describe_stacks(StackName="evergreen-test-serving")["Stacks"][0]["LastUpdatedTime"]
    release.cloudwatch.history = [
        {"AlarmName": ALARM, "HistorySummary": f"Alarm updated from {change}"}
        | {"Timestamp": began + timedelta(minutes=minutes)}
        for change, minutes in changes
    ]


def test_given_a_failure_reason_then_it_is_told(release: ReleaseHarness) -> None:
    promoted(release)
    release.sagemaker.take_back()
    release.sagemaker.failure = "The container did not pass the ping health check."

    with pytest.raises(RolledBackError, match="did not pass the ping health check"):
        release.invoke("await_topology", phase="ab")


def test_given_a_configuration_that_is_no_more_then_the_rollback_is_seen_all_the_same(
    release: ReleaseHarness,
) -> None:
    """CloudFormation deletes the configuration before, which it takes for unused."""
    promoted(release)
    release.sagemaker.take_back()
    release.sagemaker.deleted = {"config-1"}

    with pytest.raises(RolledBackError):
        release.invoke("await_topology", phase="ab")


def test_given_a_challenger_that_never_came_then_it_is_a_rollback_and_no_missing_variant(
    release: ReleaseHarness,
) -> None:
    release.lock()
    release.invoke("start_experiment", champion=OLD, challenger=NEW)
    release.stack.finish()
    release.sagemaker.take_back()
    release.sagemaker.lost = {"challenger"}

    with pytest.raises(RolledBackError):
        release.invoke("await_topology", phase="ab")


@pytest.mark.parametrize("name", ["ChampionModelUri", "ChampionModelDigest"])
def test_given_another_model_under_the_right_configuration_then_it_is_named(
    release: ReleaseHarness, name: str
) -> None:
    promoted(release)
    release.stack.generations[-1][name] = OLD["uri"] if name.endswith("Uri") else OLD["digest"]

    with pytest.raises(TopologyFailedError, match=r"of champion is .* and not") as caught:
        release.invoke("await_topology", phase="ab")
    assert not isinstance(caught.value, RolledBackError)


def test_given_another_image_under_the_right_configuration_then_it_is_named(release: ReleaseHarness) -> None:
    promoted(release)
    release.sagemaker.image = "registry/serving:0"

    with pytest.raises(TopologyFailedError, match="the image of champion is registry/serving:0 and not"):
        release.invoke("await_topology", phase="ab")


def test_given_a_rollback_then_the_way_back_is_open(release: ReleaseHarness) -> None:
    promoted(release)
    release.sagemaker.take_back()
    with pytest.raises(RolledBackError):
        release.invoke("await_topology", phase="ab")

    release.invoke("restore")
    release.stack.finish()
    release.sagemaker.generation = None

    assert release.invoke("await_topology", phase="steady") == {"settled": True}
    assert release.split() == {"champion": (1.0, OLD["version"])}


def test_given_a_second_region_that_was_taken_back_then_the_release_does_not_call_it_followed(
    release: ReleaseHarness,
) -> None:
    release.lock()
    key = NEW["uri"].partition("artefacts/")[2]
    release.bucket.objects[f"{key}weights"] = b"w"
    release.bucket.replication[f"{key}weights"] = "COMPLETED"
    arn = release.invoke("follow", champion=NEW)["execution_arn"]
    release.update_second("SUCCEEDED")
    release.second_sagemaker.take_back()

    with pytest.raises(RolledBackError):
        release.invoke("await_followed", champion=NEW, execution_arn=arn)
