"""A release that starts by itself ends as kept where there is nothing new to learn."""

from __future__ import annotations

from typing import Any

import pytest

from lambdas.release.errors import BadInputError
from tests.support.release_loop import BUCKET, ReleaseHarness

SOURCE = f"s3://{BUCKET}/datasets/support/"
CALENDAR = {"source": "aws.events", "detail-type": "Scheduled Event"}
ALARM = {"source": "aws.cloudwatch", "detail-type": "CloudWatch Alarm State Change"}
PAIRS = "datasets/support/pairs.jsonl"


def check(release: ReleaseHarness, trigger: Any = CALENDAR, release_id: str = "r-1") -> dict[str, Any]:
    return release.invoke("check_data", release_id=release_id, source_uri=SOURCE, trigger=trigger)


def end(release: ReleaseHarness, outcome: str, release_id: str = "r-1") -> None:
    release.invoke("release_lock", release_id=release_id, outcome=outcome, reason="")


@pytest.mark.parametrize("trigger", [CALENDAR, ALARM])
def test_without_data_the_calendar_and_an_alarm_end_as_kept(release: ReleaseHarness, trigger: Any) -> None:
    answer = check(release, trigger)

    assert answer["decision"] == "keep"
    assert SOURCE in answer["reason"]


def test_a_folder_made_in_the_console_is_no_data(release: ReleaseHarness) -> None:
    release.bucket.objects["datasets/support/"] = b""

    assert check(release)["decision"] == "keep"


@pytest.mark.parametrize("trigger", [{}, None, {"by": "an operator"}])
def test_without_data_an_operator_is_told(release: ReleaseHarness, trigger: Any) -> None:
    with pytest.raises(BadInputError, match="upload prompts and answers first"):
        check(release, trigger)


@pytest.mark.parametrize("outcome", ["promoted", "kept"])
def test_data_that_a_release_decided_on_is_not_new(release: ReleaseHarness, outcome: str) -> None:
    release.bucket.objects[PAIRS] = b"one"
    assert check(release)["decision"] == "train"
    end(release, outcome)

    again = check(release, release_id="r-2")
    assert (again["decision"], "r-1" in again["reason"]) == ("keep", True)
    # Neither that nor its end is a decision on other data.
    end(release, "kept", "r-2")
    release.bucket.objects[PAIRS] = b"two"
    assert check(release, release_id="r-3")["decision"] == "train"


def test_an_operator_may_train_on_the_same_data_again(release: ReleaseHarness) -> None:
    release.bucket.objects[PAIRS] = b"one"
    check(release)
    end(release, "kept")

    assert check(release, {}, "r-2")["decision"] == "train"


def test_a_release_that_failed_leaves_its_data_to_the_next(release: ReleaseHarness) -> None:
    release.bucket.objects[PAIRS] = b"one"
    check(release)
    end(release, "failed")

    assert check(release, release_id="r-2")["decision"] == "train"


def test_a_second_file_is_new(release: ReleaseHarness) -> None:
    release.bucket.objects[PAIRS] = b"one"
    check(release)
    end(release, "kept")
    release.bucket.objects["datasets/support/more.jsonl"] = b"two"

    assert check(release, release_id="r-2")["decision"] == "train"
