"""The files of a model that somebody brings: a folder, a hub's snapshot, an S3 prefix, a SageMaker archive.

What is found is laid out as an artefact in a folder of our own, by links, so that the source stays as it is.
Only data goes in: no pickles, which run code when they are read, and no code of the model's.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from contracts.archives import extract
from contracts.artefact import MANIFEST_NAME
from contracts.container import HOOK_FILE
from operations.aws_errors import code_of
from operations.progress import CommandError, Step
from operations.target import Target

_ARCHIVES = (".tar.gz", ".tgz")
_PICKLED = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
_PICKLE_MAGIC = b"\x80"
_PICKLE_PROTOCOLS = range(2, 6)
_ZIP_MAGIC = b"PK\x03\x04"
# Other frameworks' copies of the weights, which would only make the download longer.
_OTHER_WEIGHTS = (".gguf", ".h5", ".msgpack", ".ot", ".tflite")
_OURS = (MANIFEST_NAME, HOOK_FILE, str(Path(HOOK_FILE).with_suffix(".zip")))


@dataclass
class Layout:
    """A folder laid out as an artefact. `left_out` says of each file that is not in it why."""

    folder: Path
    left_out: dict[str, str] = field(default_factory=dict)


def fetch(source: str, target: Target, work: Path, step: Step) -> Path:
    """The folder that a source names, brought to this machine where it is not here.

    Args:
        source: A folder, an archive, or an S3 URI of either.
        target: Whose credentials read S3.
        work: Where downloads are kept, so that a second run goes on.
        step: Where progress is told.

    Raises CommandError where there is nothing of the kind.
    """
    if source.startswith("s3://"):
        path = _download(source, target, work, step)
    elif "://" in source:
        raise CommandError(
            f"{source} is no folder and no s3:// URI: download the model first (`hf "
            "download …`), then name the "
            "folder."
        )
    else:
        path = Path(source).expanduser().resolve()
    if path.is_file() and path.name.endswith(_ARCHIVES):
        path = _extract(path, work)
    return _model_folder(path)


def lay_out(source: Path, folder: Path) -> Layout:
    """The source's files as links in a new folder. Raises CommandError for pickled weights."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    layout = Layout(folder)
    pickles: list[str] = []
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        if path.is_dir() or any(part.startswith(".") for part in Path(name).parts) or name in _OURS:
            continue
        if _is_pickle(path):
            pickles.append(name)
            layout.left_out[name] = "a pickle: reading it would run code"
        elif path.suffix in _OTHER_WEIGHTS:
            layout.left_out[name] = "weights of another framework"
        elif path.suffix == ".py":
            layout.left_out[name] = "code of the model's own is never run"
        elif path.name.startswith("consolidated") and (source / "config.json").is_file():
            layout.left_out[name] = "a second copy of the weights"
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(path.resolve())
    if pickles and not any(folder.rglob("*.safetensors")):
        raise CommandError(
            f"{source} holds its weights as pickles ({', '.join(pickles[:3])}), which run code when they are "
            "read: bring the model as safetensors (load it once and `model.save_pretrained(folder)`)."
        )
    return layout


def _is_pickle(path: Path) -> bool:
    """By content: a file may be called anything. PyTorch writes pickles, bare or inside a zip."""
    try:
        with path.open("rb") as stream:
            start = stream.read(9)
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from error
    if start.startswith(_ZIP_MAGIC):
        return path.suffix in (*_PICKLED, ".safetensors")
    is_pickle = len(start) > 1 and start[:1] == _PICKLE_MAGIC and start[1] in _PICKLE_PROTOCOLS
    return is_pickle and start[8:9] != b"{"  # where the header of safetensors begins, whatever its length


def _model_folder(path: Path) -> Path:
    """The folder with `config.json`: the one named, or the snapshot of a hub's cache folder."""
    if not path.is_dir():
        raise CommandError(f"{path} does not exist: name the folder that holds the model's config.json.")
    if (path / "config.json").is_file():
        return path
    if (path / "adapter_config.json").is_file():
        raise CommandError(
            f"{path} is an adapter (LoRA): name the folder of its base model, or merge the two."
        )
    revision = path / "refs" / "main"
    snapshots = [found for found in (path / "snapshots").glob("*") if (found / "config.json").is_file()]
    if revision.is_file():
        snapshots = [found for found in snapshots if found.name == revision.read_text().strip()] or snapshots
    if len(snapshots) == 1:
        return snapshots[0]
    if snapshots:
        raise CommandError(f"{path} holds {len(snapshots)} snapshots: name one of them.")
    raise CommandError(f"{path} holds no config.json: name the folder of a model's files.")


def _download(source: str, target: Target, work: Path, step: Step) -> Path:
    bucket, _, prefix = source.removeprefix("s3://").partition("/")
    s3 = target.client("s3")
    into = work / hashlib.sha256(source.encode()).hexdigest()[:16]
    single = prefix.endswith(_ARCHIVES)
    if not single and prefix and not prefix.endswith("/"):
        prefix += "/"
    try:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        found = [entry for page in pages for entry in page.get("Contents", []) if entry["Size"]]
    except ClientError as error:
        if code_of(error) == "NoSuchBucket":
            raise CommandError(f"There is no bucket {bucket}: check the URI {source}.") from None
        raise
    if not found:
        raise CommandError(f"There is nothing at {source}: check the URI.")
    total = sum(int(entry["Size"]) for entry in found)
    for place, entry in enumerate(found, start=1):
        name = Path(prefix).name if single else entry["Key"].removeprefix(prefix)
        file = (into / name).resolve()
        if not file.is_relative_to(into.resolve()):
            raise CommandError(f"{source} has a key that leads out of its folder: {entry['Key']!r}.")
        step.say(
            f"download {place} of {len(found)}, {entry['Size'] / 1e6:.0f} of {total / 1e6:.0f} MB: {name}"
        )
        _download_file(s3, bucket, entry, file)
    return into / Path(prefix).name if single else into


def _download_file(s3: Any, bucket: str, entry: dict[str, Any], file: Path) -> None:
    """One object, where it is not here already: equal size and time of change."""
    changed = entry["LastModified"].timestamp()
    if file.is_file() and file.stat().st_size == entry["Size"] and file.stat().st_mtime == changed:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + ".partial")
    s3.download_file(bucket, entry["Key"], str(partial))
    os.utime(partial, (changed, changed))
    partial.replace(file)


def _extract(archive: Path, work: Path) -> Path:
    into = work / f"{archive.name.partition('.')[0]}-{archive.stat().st_mtime_ns}-{archive.stat().st_size}"
    if not into.is_dir():
        partial = into.with_name(into.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            with tarfile.open(archive) as files:
                extract(files, partial, files.getmembers())  # refuses links and paths that lead out
        except (tarfile.TarError, EOFError, OSError) as error:
            raise CommandError(f"{archive} cannot be unpacked: {error}.") from None
        partial.rename(into)
    inner = [path for path in into.iterdir() if path.is_dir()]
    return inner[0] if not (into / "config.json").is_file() and len(inner) == 1 else into
