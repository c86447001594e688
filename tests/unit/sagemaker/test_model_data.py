"""Model data: fetched with the role's credentials, once per content, within limits, never half."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.sagemaker.instances import model_data
from local.sagemaker.instances.model_data import ModelDataCache, ModelDataError, S3DataSource, data_source_of
from local.sagemaker.ports import RoleCredentials
from tests.support.sagemaker import ROLE

CREDENTIALS = RoleCredentials("AKID", "secret", "token")
PREFIX = S3DataSource("bucket", "models/m/", gzip=False)


class FakeS3:
    """A bucket as the few S3 calls used here see it; `deny` names calls that the role may not make."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = objects
        self.deny: set[str] = set()
        self.downloads: list[str] = []
        self.breaks_at: str | None = None

    def _check(self, call: str) -> None:
        if call in self.deny:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, call)

    def get_paginator(self, _name: str) -> FakeS3:
        return self

    def paginate(self, Bucket: str, Prefix: str) -> list[dict[str, Any]]:
        self._check("ListObjectsV2")
        found = [
            {"Key": key, "ETag": f'"{hash(body)}"', "Size": len(body)}
            for key, body in self.objects.items()
            if key.startswith(Prefix)
        ]
        return [{"Contents": found[:1]}, {"Contents": found[1:]}]

    def head_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        self._check("HeadObject")
        if Key not in self.objects:
            raise ClientError({"Error": {"Code": "404", "Message": "Not Found"}}, "HeadObject")
        return {"ETag": f'"{hash(self.objects[Key])}"', "ContentLength": len(self.objects[Key])}

    def get_object(self, Bucket: str, Key: str, Range: str = "") -> dict[str, Any]:
        self._check("GetObject")
        return {"Body": io.BytesIO(self.objects[Key][:1])}

    def download_file(self, bucket: str, key: str, path: str) -> None:
        self._check("GetObject")
        if key == self.breaks_at:
            raise OSError("the disk is full")
        self.downloads.append(key)
        Path(path).write_bytes(self.objects[key])


def cache(folder: Path, s3: FakeS3) -> ModelDataCache:
    return ModelDataCache(folder, lambda credentials: s3 if credentials == CREDENTIALS else None, "us-east-1")


def archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return buffer.getvalue()


def test_a_prefix_becomes_a_folder_once(tmp_path: Path) -> None:
    s3 = FakeS3({"models/m/config.json": b"{}", "models/m/sub/w.bin": b"123", "models/other": b"x"})
    store = cache(tmp_path, s3)
    folder = store.fetch(PREFIX, ROLE, CREDENTIALS)
    assert (folder / "config.json").read_bytes() == b"{}"
    assert (folder / "sub" / "w.bin").read_bytes() == b"123"
    assert store.fetch(PREFIX, ROLE, CREDENTIALS) == folder
    assert len(s3.downloads) == 2
    assert list(tmp_path.iterdir()) == [folder]


def test_other_content_is_another_folder(tmp_path: Path) -> None:
    s3 = FakeS3({"models/m/a": b"1"})
    store = cache(tmp_path, s3)
    first = store.fetch(PREFIX, ROLE, CREDENTIALS)
    s3.objects["models/m/a"] = b"2"
    second = store.fetch(PREFIX, ROLE, CREDENTIALS)
    assert (first / "a").read_bytes() == b"1"
    assert (second / "a").read_bytes() == b"2"


@pytest.mark.parametrize("call", ["ListObjectsV2", "GetObject"])
def test_a_role_without_the_right_is_told_so(tmp_path: Path, call: str) -> None:
    s3 = FakeS3({"models/m/a": b"1"})
    s3.deny.add(call)
    with pytest.raises(ModelDataError) as caught:
        cache(tmp_path, s3).fetch(PREFIX, ROLE, CREDENTIALS)
    assert str(caught.value).startswith("Could not access model data at s3://bucket/models/m/.")
    assert ROLE in str(caught.value)


def test_the_cache_grants_nothing(tmp_path: Path) -> None:
    s3 = FakeS3({"models/m/a": b"1"})
    store = cache(tmp_path, s3)
    store.fetch(PREFIX, ROLE, CREDENTIALS)
    s3.deny.add("GetObject")
    with pytest.raises(ModelDataError):
        store.fetch(PREFIX, ROLE, CREDENTIALS)


@pytest.mark.parametrize("source", [PREFIX, S3DataSource("bucket", "m.tar.gz", gzip=True)])
def test_nothing_there(tmp_path: Path, source: S3DataSource) -> None:
    with pytest.raises(ModelDataError, match="Could not find model data at s3://bucket/"):
        cache(tmp_path, FakeS3({})).fetch(source, ROLE, CREDENTIALS)


def test_a_broken_download_leaves_nothing(tmp_path: Path) -> None:
    s3 = FakeS3({"models/m/a": b"1", "models/m/b": b"2"})
    s3.breaks_at = "models/m/b"
    with pytest.raises(ModelDataError, match="the disk is full"):
        cache(tmp_path, s3).fetch(PREFIX, ROLE, CREDENTIALS)
    assert list(tmp_path.iterdir()) == []


def test_too_much_is_refused_before_it_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_data, "MAX_BYTES", 3)
    s3 = FakeS3({"models/m/a": b"12", "models/m/b": b"34"})
    with pytest.raises(ModelDataError, match="too large"):
        cache(tmp_path, s3).fetch(PREFIX, ROLE, CREDENTIALS)
    assert s3.downloads == []


def test_only_models_in_use_and_the_latest_few_are_kept(tmp_path: Path) -> None:
    store = cache(tmp_path, FakeS3({}))
    folders = [tmp_path / f"model{index}" for index in range(model_data.KEPT_UNUSED + 3)]
    for age, folder in enumerate(reversed(folders)):
        folder.mkdir()
        os.utime(folder, (1_000_000 - age, 1_000_000 - age))
    store.prune({folders[0]})
    assert [folder.exists() for folder in folders] == [True, False, False] + [True] * model_data.KEPT_UNUSED


def test_a_key_cannot_leave_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelDataError, match="cannot be a file of a model"):
        cache(tmp_path, FakeS3({"models/m/../../evil": b"x"})).fetch(PREFIX, ROLE, CREDENTIALS)


def test_an_archive_is_unpacked(tmp_path: Path) -> None:
    s3 = FakeS3({"m.tar.gz": archive({"config.json": b"{}", "code/x.py": b"pass"})})
    folder = cache(tmp_path, s3).fetch(S3DataSource("bucket", "m.tar.gz", gzip=True), ROLE, CREDENTIALS)
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == [
        "code/x.py",
        "config.json",
    ]


@pytest.mark.parametrize(
    "body", [b"not an archive", archive({"../evil": b"x"}), archive({"big": b"x" * 5000})]
)
def test_a_hostile_archive_is_refused(tmp_path: Path, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_data, "MAX_BYTES", 4000)
    with pytest.raises(ModelDataError):
        cache(tmp_path / "in", FakeS3({"m.tar.gz": body})).fetch(
            S3DataSource("bucket", "m.tar.gz", gzip=True), ROLE, CREDENTIALS
        )
    assert list((tmp_path / "in").iterdir()) == []
    assert not (tmp_path / "evil").exists()


def test_where_a_container_says_its_model_lies() -> None:
    data = {"S3Uri": "s3://b/p/", "S3DataType": "S3Prefix", "CompressionType": "None"}
    assert data_source_of({"ModelDataSource": {"S3DataSource": data}}) == S3DataSource("b", "p/", gzip=False)
    assert data_source_of({"ModelDataUrl": "s3://b/k.tar.gz"}) == S3DataSource("b", "k.tar.gz", gzip=True)
    assert data_source_of({"Image": "i"}) is None
