"""Archives of model files, unpacked so that nothing lands outside the folder."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath


def extract(archive: tarfile.TarFile, folder: Path, members: Sequence[tarfile.TarInfo]) -> None:
    """Unpack members of an archive into a folder.

    Raises tarfile.TarError for links that lead out, paths that do, and what is neither file nor folder.
    Python 3.11 has the filter that sees to it from 3.11.4 on; before, links are refused altogether.
    """
    if hasattr(tarfile, "data_filter"):
        archive.extractall(folder, members=members, filter="data")
        return
    for member in members:
        path = PurePosixPath(member.name)
        if not (member.isfile() or member.isdir()) or path.is_absolute() or ".." in path.parts:
            raise tarfile.ExtractError(f"{member.name} is no file that may be unpacked here")
        member.mode = 0o755 if member.isdir() else 0o644
    archive.extractall(folder, members=members)  # noqa: S202 - checked above
