"""Puts the hook into a model artefact, as `code/evergreen_hook.py` and a zip beside it.

`python -m model_code.vllm_hook.install FOLDER` for weights brought by hand; training jobs call `install`.
The artefact is the one thing of ours that reaches AWS's vLLM image. Equal sources give equal bytes.
"""

from __future__ import annotations

import argparse
import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from contracts.artefact import MANIFEST_NAME, Manifest, describe
from contracts.container import HOOK_FILE

_ROOT = Path(__file__).resolve().parents[2]
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that zip knows
_SHARED = (
    "__init__",
    "admission",
    "control_text",
    "errors",
    "generation/__init__",
    "generation/plain_scalars",
    "generation/plain_schema",
    "logs",
    "watchdog",
    "http/__init__",
    "http/connection",
    "http/request_headers",
    "protocol/__init__",
    "protocol/parsing",
)
_SOURCES = (
    "contracts/*.py",
    "model_code/__init__.py",
    "model_code/vllm_hook/*.py",
    # What the hook shares with our own server; the engines stay at home.
    *(f"model_code/serving/{name}.py" for name in _SHARED),
)
_LAUNCHER = '''\
"""Evergreen's hook for vLLM's server: see model_code/vllm_hook in the zip beside this file."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).with_suffix(".zip")))

from model_code.vllm_hook.middleware import Hook  # noqa: E402
from model_code.vllm_hook.ping import ping  # noqa: E402

__all__ = ["Hook", "ping"]
'''


def install(folder: Path) -> None:
    """Write both files; the artefact's manifest is the caller's."""
    launcher = folder / HOOK_FILE
    launcher.parent.mkdir(parents=True, exist_ok=True)
    launcher.write_text(_LAUNCHER)
    launcher.with_suffix(".zip").write_bytes(_archive())


def _archive() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for path in sorted(_files()):
            entry = zipfile.ZipInfo(path.relative_to(_ROOT).as_posix(), _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, path.read_bytes())
    return packed.getvalue()


def _files() -> Iterator[Path]:
    for pattern in _SOURCES:
        yield from _ROOT.glob(pattern)


def main() -> int:
    """Install into a folder and renew its manifest; prints the artefact's digest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of a model's files")
    parser.add_argument("--name", help="the model's name in the manifest; default: as it is, or the folder's")
    options = parser.parse_args()
    folder: Path = options.folder
    if not (folder / "config.json").is_file():
        print(f"{folder} holds no config.json: give the folder of a model's files.", file=sys.stderr)
        return 2
    stored = folder / MANIFEST_NAME
    known = Manifest.model_validate_json(stored.read_bytes()).name if stored.is_file() else folder.name
    install(folder)
    manifest = describe(folder, options.name or known)
    stored.write_bytes(manifest.canonical())
    print(manifest.digest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
