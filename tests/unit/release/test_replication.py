"""The second region gets a champion after its promotion, once its copy is there, or says why not."""

from __future__ import annotations

import pytest

from lambdas.release.errors import (
    ArtefactIncompleteError,
    CopyPendingError,
    LockLostError,
    TopologyFailedError,
)
from tests.support.release_loop import BUCKET, NEW, SECOND, SECOND_BUCKET, ReleaseHarness

KEY = NEW["uri"].removeprefix(f"s3://{BUCKET}/")
COPY = {
    "ChampionModelUri": f"s3://{SECOND_BUCKET}/{KEY}",
    "ChampionModelDigest": NEW["digest"],
    "ChampionModelVersion": NEW["version"],
}


def put(release: ReleaseHarness, *statuses: str | None) -> None:
    """The promoted model's files, each with what S3 says of its copy."""
    for place, status in enumerate(statuses):
        key = f"{KEY}part-{place}"
        release.bucket.objects[key] = b"weights"
        if status:
            release.bucket.replication[key] = status


def test_given_a_model_that_was_copied_then_the_second_region_serves_the_copy(
    release: ReleaseHarness,
) -> None:
    release.lock()
    put(release, "COMPLETED", "COMPLETED")

    arn = release.invoke("follow", champion=NEW)["execution_arn"]
    assert release.invoke("await_followed", champion=NEW, execution_arn=arn) == {"settled": False}
    release.update_second("SUCCEEDED")

    assert release.invoke("await_followed", champion=NEW, execution_arn=arn) == {"settled": True}
    assert release.second.parameters == SECOND | COPY
    assert release.story()[-2:] == [("follow", "started"), ("await_followed", "settled")]


def test_given_a_copy_under_way_then_nothing_is_updated_yet(release: ReleaseHarness) -> None:
    release.lock()
    put(release, "COMPLETED", "PENDING")

    with pytest.raises(CopyPendingError, match="not yet in the second region"):
        release.invoke("follow", champion=NEW)

    assert release.second_workflow.executions == {}
    assert ("follow", "failed") not in release.story()  # it is asked again soon


@pytest.mark.parametrize(
    ("status", "why"), [("FAILED", "S3 could not copy it"), (None, "older than the copying")]
)
def test_given_a_file_that_will_never_arrive_then_it_is_named(
    release: ReleaseHarness, status: str | None, why: str
) -> None:
    release.lock()
    put(release, "COMPLETED", status)

    with pytest.raises(ArtefactIncompleteError, match=f"part-1 is not in the second region: .*{why}"):
        release.invoke("follow", champion=NEW)


def test_given_an_update_that_failed_then_the_cause_is_told(release: ReleaseHarness) -> None:
    release.lock()
    put(release, "COMPLETED")
    arn = release.invoke("follow", champion=NEW)["execution_arn"]
    release.update_second("FAILED", "Endpoint: The container did not start.")

    with pytest.raises(TopologyFailedError, match=r"second region.*Endpoint: The container did not start"):
        release.invoke("await_followed", champion=NEW, execution_arn=arn)


def test_given_an_update_that_was_taken_back_afterwards_then_it_has_failed(release: ReleaseHarness) -> None:
    release.lock()
    put(release, "COMPLETED")
    arn = release.invoke("follow", champion=NEW)["execution_arn"]
    release.update_second("SUCCEEDED")
    release.second.roll_back("Endpoint", "The container did not start.")

    with pytest.raises(TopologyFailedError, match=r"second region.*Endpoint: The container did not start"):
        release.invoke("await_followed", champion=NEW, execution_arn=arn)


@pytest.mark.parametrize("status", ["RUNNING", "SUCCEEDED"])
def test_given_a_task_that_is_repeated_then_it_is_the_same_update(
    release: ReleaseHarness, status: str
) -> None:
    release_id = "a.b_" + "x" * 76  # longer than an execution's name may be
    release.lock(release_id)
    put(release, "COMPLETED")
    arn = release.invoke("follow", release_id=release_id, champion=NEW)["execution_arn"]
    release.second_workflow.executions[arn] = status

    assert release.invoke("follow", release_id=release_id, champion=NEW)["execution_arn"] == arn
    assert list(release.second_workflow.executions) == [arn]


def test_given_no_lock_then_the_second_region_is_left_alone(release: ReleaseHarness) -> None:
    put(release, "COMPLETED")

    with pytest.raises(LockLostError):
        release.invoke("follow", champion=NEW)

    assert (release.second.calls, release.second_workflow.calls) == ([], [])
