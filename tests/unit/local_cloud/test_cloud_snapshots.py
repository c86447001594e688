"""Saved state: whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.cloud.config import CloudConfig
from local.cloud.snapshots import NoSnapshotError, Snapshots, load_or_reset, snapshots_of


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    return Snapshots(tmp_path / "state", "emulator 1")


def test_the_latest_snapshot_is_in_force_and_the_only_one(snapshots: Snapshots) -> None:
    snapshots.save({"iam": "1"})
    snapshots.save({"iam": "2", "s3": "3"})

    assert snapshots.load() == {"iam": "2", "s3": "3"}
    assert len([path for path in snapshots.folder.iterdir() if path.is_dir()]) == 1


def test_a_save_that_was_cut_off_leaves_the_former_one_in_force(snapshots: Snapshots) -> None:
    snapshots.save({"iam": "1"})
    half = snapshots.folder / "2"
    half.mkdir()
    (half / "iam.json").write_text("half")

    assert snapshots.load() == {"iam": "1"}
    snapshots.save({"iam": "3"})
    assert snapshots.load() == {"iam": "3"}


def test_a_damaged_part_is_not_restored(snapshots: Snapshots) -> None:
    snapshots.save({"iam": "1", "s3": "2"})
    next(snapshots.folder.glob("*/s3.json")).write_text("other")

    with pytest.raises(NoSnapshotError, match=r"damaged: s3"):
        snapshots.load()


def test_a_missing_part_is_not_restored(snapshots: Snapshots) -> None:
    snapshots.save({"iam": "1"})
    next(snapshots.folder.glob("*/iam.json")).unlink()

    with pytest.raises(NoSnapshotError, match="cannot be read"):
        snapshots.load()


def test_another_version_does_not_restore_it(snapshots: Snapshots) -> None:
    snapshots.save({"iam": "1"})

    with pytest.raises(NoSnapshotError, match="another version"):
        Snapshots(snapshots.folder, "emulator 2").load()


def test_a_rejected_snapshot_is_out_of_force(snapshots: Snapshots) -> None:
    snapshots.save({"iam": "1"})
    snapshots.reject()

    with pytest.raises(NoSnapshotError, match="no saved state"):
        snapshots.load()


def test_a_fresh_start_removes_what_an_earlier_run_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.cloud.snapshots.version", lambda _name: "1")
    config = CloudConfig(home=tmp_path, port=1, venvs=tmp_path)
    stale = config.folder / "s3" / "bucket"
    stale.mkdir(parents=True)

    origin = load_or_reset(config)

    assert (origin.parts, origin.reason) == (None, "no saved state")
    assert not stale.exists()

    snapshots_of(config).save({"iam": "1"})
    stale.mkdir(parents=True)
    assert load_or_reset(config).parts == {"iam": "1"}
    assert stale.exists()
