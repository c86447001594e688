"""What a function's process is started with, and where its code lies."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from local.cloud.adapter_types import Credentials, LambdaFunction
from local.cloud.lambda_service.environment import CodeFolders, command, log_group, unpack, variables

PYTHON = Path("/venvs/lambda/bin/python")


def archive(**files: str) -> bytes:
    """A ZIP of text files, all executable."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o755 << 16
            bundle.writestr(entry, text)
    return buffer.getvalue()


def function(**configuration: Any) -> LambdaFunction:
    """A deployed function with one file."""
    return LambdaFunction(
        name="front",
        arn="arn:aws:lambda:us-east-1:123456789012:function:front",
        version="$LATEST",
        configuration={"Handler": "app.handler", "Runtime": "python3.14", "MemorySize": 512, **configuration},
        code_zip=archive(app="print()"),
        layer_zips=[],
        reserved_concurrency=None,
    )


def environment_of(deployed: LambdaFunction) -> dict[str, str]:
    return variables(
        deployed,
        CodeFolders(Path("/code"), Path("/layers")),
        python=PYTHON,
        runtime_api="127.0.0.1:9",
        endpoint_url="http://127.0.0.1:4566",
        region="us-east-1",
        credentials=Credentials("ASIA", "secret", "token"),
        log_stream="today",
    )


def test_code_is_unpacked_once_per_content_with_its_modes(tmp_path: Path) -> None:
    first, again = unpack(function(), tmp_path), unpack(function(), tmp_path)

    assert first == again
    assert (first.task / "app").read_text() == "print()"
    assert os.access(first.task / "app", os.X_OK)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".unpacking-")]


def test_without_a_wrapper_the_runtime_itself_is_started() -> None:
    folders = CodeFolders(Path("/code"), Path("/layers"))

    assert command(function(), folders, PYTHON) == [str(PYTHON), "-m", "awslambdaric", "app.handler"]


@pytest.mark.parametrize(
    ("wrapper", "expected"),
    [("/var/task/bin/start", "/code/bin/start"), ("/opt/start", "/layers/start"), ("/bin/env", "/bin/env")],
)
def test_a_wrapper_is_started_with_the_runtime_as_its_arguments(wrapper: str, expected: str) -> None:
    wrapped = function(Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": wrapper}})
    folders = CodeFolders(Path("/code"), Path("/layers"))

    started = command(wrapped, folders, PYTHON)

    assert started == [expected, str(PYTHON), "-m", "awslambdaric", "app.handler"]


def test_the_environment_is_lambdas_and_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_SECRET_OF_THE_HOST", "leak")

    environment = environment_of(function(Environment={"Variables": {"TABLE": "t"}}))

    assert environment["TABLE"] == "t"
    assert environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "512"
    assert environment["AWS_SESSION_TOKEN"] == "token"
    assert environment["AWS_ENDPOINT_URL"] == "http://127.0.0.1:4566"
    assert environment["PATH"].startswith("/venvs/lambda/bin:")
    assert "EVERGREEN_SECRET_OF_THE_HOST" not in environment


def test_a_function_cannot_give_itself_other_credentials() -> None:
    greedy = function(Environment={"Variables": {"AWS_ACCESS_KEY_ID": "123456789012"}})

    assert environment_of(greedy)["AWS_ACCESS_KEY_ID"] == "ASIA"


def test_the_log_group_is_the_configured_one_or_lambdas_own() -> None:
    assert log_group(function()) == "/aws/lambda/front"
    assert log_group(function(LoggingConfig={"LogGroup": "mine"})) == "mine"
