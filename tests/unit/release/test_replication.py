"""The second region gets a champion after its promotion, once its copy is there, or says why not."""

from __future__ import annotations

import pytest

from lambdas.release.errors import (
    ArtefactIncompleteError,
    CopyPendingError,
    LockLostError,
    TopologyFailedError,
)
from tests.support.release_loop import BUCKET, NEW, SECOND, SECOND_BUCKET, World

KEY = NEW["uri"].removeprefix(f"s3://{BUCKET}/")
COPY = {
    "ChampionModelUri": f"s3://{SECOND_BUCKET}/{KEY}",
    "ChampionModelDigest": NEW["digest"],
    "ChampionModelVersion": NEW["version"],
}


def put(world: World, *statuses: str | None) -> None:
    """The promoted model's files, each with what S3 says of its copy."""
    for place, status in enumerate(statuses):
        key = f"{KEY}part-{place}"
        world.bucket.objects[key] = b"weights"
        if status:
            world.bucket.replication[key] = status


def test_given_a_model_that_was_copied_then_the_second_region_serves_the_copy(world: World) -> None:
    world.lock()
    put(world, "COMPLETED", "COMPLETED")

    world.release("follow", champion=NEW)
    assert world.release("await_followed", champion=NEW) == {"settled": False}
    world.second.finish()

    assert world.release("await_followed", champion=NEW) == {"settled": True}
    assert world.second.parameters == SECOND | COPY
    assert world.story()[-2:] == [("follow", "started"), ("await_followed", "settled")]


def test_given_a_copy_under_way_then_nothing_is_updated_yet(world: World) -> None:
    world.lock()
    put(world, "COMPLETED", "PENDING")

    with pytest.raises(CopyPendingError, match="not yet in the second region"):
        world.release("follow", champion=NEW)

    assert world.second.received("update_stack") == []
    assert ("follow", "failed") not in world.story()  # it is asked again soon


@pytest.mark.parametrize(
    ("status", "why"), [("FAILED", "S3 could not copy it"), (None, "older than the copying")]
)
def test_given_a_file_that_will_never_arrive_then_it_is_named(
    world: World, status: str | None, why: str
) -> None:
    world.lock()
    put(world, "COMPLETED", status)

    with pytest.raises(ArtefactIncompleteError, match=f"part-1 is not in the second region: .*{why}"):
        world.release("follow", champion=NEW)


def test_given_an_update_that_was_rolled_back_then_the_cause_is_told(world: World) -> None:
    world.lock()
    put(world, "COMPLETED")
    world.release("follow", champion=NEW)
    world.second.roll_back("Endpoint", "The container did not start.")

    with pytest.raises(TopologyFailedError, match=r"second region.*Endpoint: The container did not start"):
        world.release("await_followed", champion=NEW)


def test_given_a_task_that_is_repeated_then_it_does_nothing_more(world: World) -> None:
    world.lock()
    put(world, "COMPLETED")
    world.release("follow", champion=NEW)
    world.release("follow", champion=NEW)
    world.second.finish()
    world.release("follow", champion=NEW)

    assert world.second.status == "UPDATE_COMPLETE"
    assert len(world.second.tokens) == 1


def test_given_no_lock_then_the_second_region_is_left_alone(world: World) -> None:
    put(world, "COMPLETED")

    with pytest.raises(LockLostError):
        world.release("follow", champion=NEW)

    assert world.second.calls == []
