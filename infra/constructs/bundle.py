"""A Lambda bundle without Docker: our sources and the pinned wheels for the function's platform.

Bundles are named by a hash of everything that goes in (sources, lock, platform), so an unchanged one is taken
from the output folder, and the wheels of an unchanged lock are installed once. Knows nothing of the function.
"""

from __future__ import annotations

import compileall
import hashlib
import py_compile
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import jsii
from aws_cdk import aws_lambda as lambda_
from uv import find_uv_bin

ROOT = Path(__file__).resolve().parents[2]
_LIBRARIES = ("lambdas/runtime", "lambdas/aws", "lambdas/pipeline", "contracts", "evaluation/statistics")
_PACKAGES = ("lambdas", "contracts", "evaluation")
_NOT_SHIPPED = ("__pycache__", "tests")
_PLATFORMS = {"arm64": "aarch64", "x86_64": "x86_64"}
_INSTALL_TIMEOUT_SECONDS = 600
_LAYOUT = "compiled"  # goes into the hashes: bundles of another make are built anew
_TASK_ROOT = "/var/task"


class BundleError(Exception):
    """The wheels of a function cannot be installed; the text holds uv's own last lines."""


@dataclass(frozen=True)
class Bundle:
    """What goes into one function: its own folder, the libraries that it may import, and its pins.

    `pins` names the lock `requirements/locks/lambda-<pins>.txt`; without it the function has one of its own.
    """

    name: str
    runtime: str  # python3.14
    architecture: str  # arm64 | x86_64
    host: bool  # install for this machine rather than for Lambda's
    root: Path = ROOT
    pins: str = ""

    @property
    def lock(self) -> Path:
        """Everything that the function needs, with hashes."""
        return self.root / "requirements" / "locks" / f"lambda-{self.pins or self.name}.txt"

    def source_files(self) -> Iterator[Path]:
        """Files of ours that are shipped, sorted, relative to the repository's root."""
        folders = (f"lambdas/{self.name}", *_LIBRARIES)
        # A package in which only some folders are shipped is imported through its `__init__.py`.
        markers = {Path(folder).parts[0] for folder in folders if "/" in folder}
        found = {self.root / package / "__init__.py" for package in markers}
        found |= {path for folder in folders for path in (self.root / folder).rglob("*")}
        for path in sorted(found):
            relative = path.relative_to(self.root)
            if path.is_file() and not set(_NOT_SHIPPED) & set(relative.parts):
                yield relative

    @property
    def wheels_hash(self) -> str:
        """Names the installed wheels: the lock and the platform they are for."""
        platform = f"{self.runtime} {self.architecture} {sys.platform if self.host else 'lambda'} {_LAYOUT}"
        return hashlib.sha256(platform.encode() + b"\0" + self.lock.read_bytes()).hexdigest()

    @property
    def hash(self) -> str:
        """Names the bundle: equal hashes, equal content."""
        digest = hashlib.sha256(self.wheels_hash.encode())
        for relative in self.source_files():
            path = self.root / relative
            executable = b"x" if path.stat().st_mode & 0o100 else b"-"
            digest.update(b"\0".join([str(relative).encode(), executable, path.read_bytes(), b""]))
        return digest.hexdigest()

    def build(self, folder: Path, cache: Path) -> None:
        """Write the bundle into `folder`; wheels are kept in `cache` by their hash. Raises BundleError."""
        wheels = cache / self.wheels_hash
        if not wheels.is_dir():
            self._install(wheels)
        shutil.copytree(wheels, folder, dirs_exist_ok=True)
        for relative in self.source_files():
            target = folder / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.root / relative, target)  # keeps the executable bit
        self._compile(folder, [folder / package for package in _PACKAGES])

    def _install(self, wheels: Path) -> None:
        """Install into a folder beside, then rename: an interrupted run leaves no half-filled cache."""
        wheels.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=wheels.parent) as scratch:
            target = Path(scratch) / "wheels"
            target.mkdir()
            try:
                subprocess.run(
                    self.install_command(target),
                    check=True,
                    capture_output=True,
                    text=True,
                    timeout=_INSTALL_TIMEOUT_SECONDS,
                )
            except subprocess.CalledProcessError as error:
                tail = "\n".join(error.stderr.strip().splitlines()[-8:])
                raise BundleError(f"uv could not install {self.lock.name}:\n{tail}") from None
            except subprocess.TimeoutExpired:
                raise BundleError(
                    f"uv did not install {self.lock.name} within {_INSTALL_TIMEOUT_SECONDS} s"
                ) from None
            (target / ".lock").unlink(missing_ok=True)  # uv's own, while it writes
            for needless in [*target.glob("*.dist-info"), target / "bin"]:
                shutil.rmtree(needless, ignore_errors=True)
            self._compile(target, [target])
            target.rename(wheels)

    def _compile(self, root: Path, folders: list[Path]) -> None:
        """Write byte code, which a function cannot keep for itself: it halves and more a cold start's work.

        Only where this interpreter is the function's version; the same sources give the same bytes.
        """
        if self.runtime != f"python{sys.version_info.major}.{sys.version_info.minor}":
            return
        for folder in folders:
            compileall.compile_dir(
                folder,
                quiet=2,
                stripdir=str(root),
                prependdir=_TASK_ROOT,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )

    def install_command(self, target: Path) -> list[str]:
        """The uv call: wheels only, for Lambda's platform or for this machine's."""
        command = [find_uv_bin(), "pip", "install", "--quiet", "--color=never", "--system-certs"]
        command += ["--no-deps", "--require-hashes", "--only-binary=:all:"]
        command += ["--python", sys.executable, "--target", str(target), "--requirement", str(self.lock)]
        if not self.host:
            command += ["--python-version", self.runtime.removeprefix("python")]
            command += ["--python-platform", f"{_PLATFORMS[self.architecture]}-manylinux_2_28"]
        return command

    def code(self) -> lambda_.AssetCode:
        """The bundle as Lambda code; built at synth unless the output folder has it."""
        return lambda_.Code.from_asset(
            str(self.root / "lambdas"),
            asset_hash_type=cdk.AssetHashType.CUSTOM,
            asset_hash=self.hash,
            bundling=cdk.BundlingOptions(
                image=cdk.DockerImage.from_registry(
                    "never-started"
                ),  # a required field; `local` always answers
                local=_LocalBundling(self),
            ),
        )


@jsii.implements(cdk.ILocalBundling)
class _LocalBundling:
    """CDK's hook for bundling without Docker."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def try_bundle(self, output_dir: str, *_options: Any, **_more: Any) -> bool:
        folder = Path(output_dir)
        try:
            self._bundle.build(folder, cache=folder.parent / ".wheels")
        except BundleError as error:
            # As an exception it would come back through jsii, buried in frames.
            sys.exit(str(error))
        return True
