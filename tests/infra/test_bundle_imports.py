"""Every handler is imported from a folder laid out as its bundle is: nothing it needs may be missing there.

The interpreter is isolated (`-I -S`): it sees the bundle, and beside it what the function's pins bring and
what Lambda's runtime has (the AWS SDK). Nothing of the checkout is on its path.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.constructs.bundle import ROOT, Bundle

_RUNTIME = ["boto3"]  # Lambda's managed runtime brings it along; requirements/lambda-runtime.txt
_VARIABLES = {
    "ENVIRONMENT": "test",
    "ACCESS_TABLE": "access",
    "ENDPOINT_NAME": "endpoint",
    "MODEL_NAME": "model",
    "MODEL_VERSION": "v1",
    "RECORDS_TABLE": "records",
    "RECORD_TTL_DAYS": "7",
    "MAX_BODY_BYTES": "100000",
    "WORK_TABLE": "work",
    "WORK_BUCKET": "work",
    "JOBS_QUEUE": "https://queue.test/q",
    "JOBS_OPEN_PER_KEY": "3",
    "JOBS_DEADLINE_SECONDS": "60",
    "JOBS_RETENTION_SECONDS": "60",
    "JOBS_MAX_FILE_BYTES": "1000",
    "JOBS_MAX_LINES": "10",
    "JOBS_PARALLEL": "1",
    "JOBS_REQUEST_SECONDS": "60",
    "SERVING_STACK": "serving",
    "LEDGER_TABLE": "ledger",
    "ARTEFACTS_BUCKET": "artefacts",
    "MODEL_PACKAGE_GROUP": "models",
    "GATE": json.dumps({"metric": "token_f1"}),
    "CANARY": json.dumps(
        {"shares": [0.1], "planned_sample": [30], "deadline_minutes": 10, "maximum_error_rate": 0.02}
    ),
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
}
FUNCTIONS = [
    ("authorizer", "", ["lambdas.authorizer.handler"]),
    ("inference", "", ["lambdas.inference.handler", "lambdas.runtime.streaming"]),
    ("jobs", "inference", ["lambdas.jobs.handler", "lambdas.runtime.streaming"]),
    ("job_worker", "inference", ["lambdas.job_worker.handler"]),
    ("api", "", ["lambdas.api.handler"]),
    ("release", "", ["lambdas.release.analysis_handler", "lambdas.release.handler"]),
]


def _distributions(names: list[str]) -> list[str]:
    """The named distributions of this interpreter and what they require, without extras."""
    found: list[str] = []
    todo = list(names)
    while todo:
        name = re.split(r"[^A-Za-z0-9._-]", todo.pop())[0].lower().replace("_", "-")
        if name in found:
            continue
        found.append(name)
        required = importlib.metadata.distribution(name).requires or []
        todo += [one.partition(";")[0] for one in required if "extra ==" not in one and _applies(one)]
    return found


def _applies(requirement: str) -> bool:
    try:
        importlib.metadata.distribution(re.split(r"[^A-Za-z0-9._-]", requirement)[0])
    except importlib.metadata.PackageNotFoundError:
        return False  # for another platform or Python
    return True


def _link(names: list[str], folder: Path) -> None:
    """What these distributions have at their top level, as links in `folder`."""
    for name in names:
        files = importlib.metadata.distribution(name).files or []
        for top in {file.parts[0] for file in files if file.parts[0] not in ("..", "bin", "__pycache__")}:
            source = Path(str(importlib.metadata.distribution(name).locate_file(top)))
            if source.exists() and not (folder / top).exists():
                (folder / top).symlink_to(source)


def lay_out(name: str, pins: str, root: Path, folder: Path) -> None:
    """The function's bundle, its wheels taken from this environment."""
    bundle = Bundle(name, "python3.14", "arm64", host=True, root=root, pins=pins)
    for relative in bundle.source_files():
        (folder / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / relative, folder / relative)
    pinned = [
        line.partition("==")[0]
        for line in bundle.lock.read_text().splitlines()
        if re.match(r"[A-Za-z]", line)
    ]
    _link(_distributions([*pinned, *_RUNTIME]), folder)


def import_in(folder: Path, module: str) -> subprocess.CompletedProcess[str]:
    """Import one module with nothing on the path but the folder and the standard library."""
    code = f"import sys; sys.path.append({str(folder)!r}); import {module}"
    environment = {**_VARIABLES, "PATH": os.environ["PATH"]}
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
        timeout=120,
    )


@pytest.mark.parametrize(("name", "pins", "modules"), FUNCTIONS, ids=[name for name, *_ in FUNCTIONS])
def test_a_handler_finds_all_it_imports_in_its_bundle(
    name: str, pins: str, modules: list[str], tmp_path: Path
) -> None:
    lay_out(name, pins, ROOT, tmp_path)
    for module in modules:
        done = import_in(tmp_path, module)
        assert done.returncode == 0, done.stderr[-2_000:]


@pytest.mark.parametrize(
    "line",
    ["from evaluation.metrics import classification", "import lambdas.jobs.service", "import local"],
)
def test_an_import_that_the_bundle_lacks_is_found(line: str, tmp_path: Path) -> None:
    lay_out("inference", "", ROOT, tmp_path)
    handler = tmp_path / "lambdas/inference/handler.py"
    handler.write_text(handler.read_text() + f"\n{line}\n")

    done = import_in(tmp_path, "lambdas.inference.handler")

    assert done.returncode != 0
    assert "ModuleNotFoundError" in done.stderr


def test_every_function_of_the_stacks_is_looked_at() -> None:
    folders = {path.parent.name for path in ROOT.glob("lambdas/*/handler.py")} | {"refresh"}
    assert folders == {name for name, *_ in FUNCTIONS}
