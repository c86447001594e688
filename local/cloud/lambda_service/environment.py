"""What a function's process sees: its code on disk, its command line and its environment variables.

Pure but for unpacking ZIPs. Source: the Lambda developer guide, "Defined runtime environment variables" and
"Modifying the runtime environment" (wrapper scripts).
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from local.cloud.adapter_types import Credentials, LambdaFunction

TASK_ROOT = "/var/task"
LAYER_ROOT = "/opt"
_WRAPPER = "AWS_LAMBDA_EXEC_WRAPPER"


@dataclass(frozen=True)
class CodeFolders:
    """Where a function's code and its merged layers were unpacked."""

    task: Path
    layers: Path

    def resolve(self, path: str) -> Path:
        """A path as the function knows it (`/var/task/…`, `/opt/…`) on this machine."""
        for root, folder in ((TASK_ROOT, self.task), (LAYER_ROOT, self.layers)):
            if path == root or path.startswith(root + "/"):
                return folder / path[len(root) + 1 :]
        return Path(path)


def unpack(function: LambdaFunction, cache: Path) -> CodeFolders:
    """Unpack code and layers below `cache`, once per content; file modes are kept, as on Lambda."""
    return CodeFolders(
        task=_unpacked([function.code_zip], cache), layers=_unpacked(function.layer_zips, cache)
    )


def _unpacked(archives: Sequence[bytes], cache: Path) -> Path:
    digest = hashlib.sha256(b"".join(hashlib.sha256(archive).digest() for archive in archives)).hexdigest()
    target = cache / digest[:32]
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=cache, prefix=".unpacking-"))
    scratch.chmod(0o755)
    for archive in archives:
        _extract(archive, scratch)
    try:
        scratch.rename(target)
    except OSError:
        # Someone else unpacked the same content first.
        shutil.rmtree(scratch)
    return target


def _extract(archive: bytes, folder: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(archive)) as bundle:
        for entry in bundle.infolist():
            path = bundle.extract(entry, folder)
            mode = entry.external_attr >> 16 & 0o777
            if mode and not entry.is_dir():
                os.chmod(path, mode)


def command(function: LambdaFunction, folders: CodeFolders, python: Path) -> list[str]:
    """The process to start: the runtime, or the function's wrapper with the runtime as its arguments."""
    runtime = [str(python), "-m", "awslambdaric", function.configuration["Handler"]]
    wrapper = _own_variables(function).get(_WRAPPER)
    return [str(folders.resolve(wrapper)), *runtime] if wrapper else runtime


def variables(
    function: LambdaFunction,
    folders: CodeFolders,
    *,
    python: Path,
    runtime_api: str,
    endpoint_url: str,
    region: str,
    credentials: Credentials,
    log_stream: str,
) -> dict[str, str]:
    """The whole environment of the process; nothing of ours leaks in.

    `AWS_ENDPOINT_URL` is the one variable that Lambda would not set: it points the AWS libraries here. The
    interpreter stands first on the PATH, as Lambda's own does.
    """
    configuration = function.configuration
    layer_python = folders.layers / "python"
    return {
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "PATH": f"{python.parent}:/usr/local/bin:/usr/bin:/bin:{folders.layers}/bin",
        "LD_LIBRARY_PATH": f"{folders.task}:{folders.task}/lib:{folders.layers}/lib",
        "PYTHONPATH": f"{folders.task}:{layer_python}",
        "HOME": tempfile.gettempdir(),
        **_own_variables(function),
        "_HANDLER": configuration["Handler"],
        "LAMBDA_TASK_ROOT": str(folders.task),
        "LAMBDA_RUNTIME_DIR": str(python.parent),
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{configuration['Runtime']}",
        "AWS_LAMBDA_RUNTIME_API": runtime_api,
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": function.version,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(configuration.get("MemorySize", 128)),
        "AWS_LAMBDA_LOG_GROUP_NAME": log_group(function),
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_ACCESS_KEY_ID": credentials.access_key_id,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_access_key,
        "AWS_SESSION_TOKEN": credentials.session_token,
        "AWS_ENDPOINT_URL": endpoint_url,
    }


def log_group(function: LambdaFunction) -> str:
    """Where the function logs: its configured group or `/aws/lambda/<name>`."""
    configured: Mapping[str, str] = function.configuration.get("LoggingConfig") or {}
    return configured.get("LogGroup") or f"/aws/lambda/{function.name}"


def _own_variables(function: LambdaFunction) -> Mapping[str, str]:
    return (function.configuration.get("Environment") or {}).get("Variables") or {}
