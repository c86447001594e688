"""An archive is unpacked into its folder alone, on Pythons with tarfile's filter and on those before it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from contracts.archives import extract


@pytest.fixture(params=["with the filter", "before 3.11.4"], autouse=True)
def python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "before 3.11.4":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
        plain = tarfile.TarFile.extractall

        def without_filter(self: tarfile.TarFile, path: Path, members: list[tarfile.TarInfo]) -> None:
            plain(
                self, path, members, **({"filter": "fully_trusted"} if hasattr(tarfile, "tar_filter") else {})
            )

        monkeypatch.setattr(tarfile.TarFile, "extractall", without_filter)


def unpacked(folder: Path, name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.size = kind, link, 0 if kind != tarfile.REGTYPE else 2
        archive.addfile(member, io.BytesIO(b"hi"))
    packed.seek(0)
    with tarfile.open(fileobj=packed) as archive:
        extract(archive, folder, archive.getmembers())


def test_a_file_is_unpacked(tmp_path: Path) -> None:
    unpacked(tmp_path, "code/hook.py")
    assert (tmp_path / "code" / "hook.py").read_bytes() == b"hi"


@pytest.mark.parametrize(
    ("name", "kind", "link"),
    [
        ("../out", tarfile.REGTYPE, ""),
        ("a/../../out", tarfile.REGTYPE, ""),
        ("out", tarfile.SYMTYPE, "/etc"),
        ("out", tarfile.LNKTYPE, "../../etc/passwd"),
        ("out", tarfile.FIFOTYPE, ""),
    ],
)
def test_what_leads_out_or_is_no_file_is_refused(tmp_path: Path, name: str, kind: bytes, link: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    with pytest.raises(tarfile.TarError):
        unpacked(folder, name, kind, link)
    assert list(folder.rglob("out")) == []
    assert not (tmp_path / "out").exists()
