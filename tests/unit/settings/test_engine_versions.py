"""The recorded versions of vLLM, and the script that records them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from infra.settings import engine_recorder
from infra.settings.engine_versions import engine_versions

FACTS = {
    "flags": ["model", "port"],
    "tool_call_parsers": ["hermes"],
    "reasoning_parsers": ["qwen3"],
    "quantization": ["fp8"],
}


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "engine_versions.yaml"
    monkeypatch.setattr(engine_recorder, "TABLE", path)
    return path


def interpreter(folder: Path, version: str, **changes: list[str]) -> str:
    """A program that answers the probe, as an environment's interpreter would, after lines of a log."""
    path = folder / f"python-{version}"
    answer = json.dumps({"version": version, **FACTS, **changes})
    path.write_text(f"#!/bin/sh\necho 'INFO a line of the log'\ncat <<'END'\n{answer}\nEND\n")
    path.chmod(0o755)
    return str(path)


def test_versions_stand_in_their_order_and_are_replaced_one_by_one(table: Path, tmp_path: Path) -> None:
    first = [interpreter(tmp_path, version) for version in ("0.30.0", "0.9.2")]
    assert engine_recorder.main(first) == 0
    assert engine_recorder.main([interpreter(tmp_path, "0.30.0", flags=["model", "new-flag"])]) == 0

    rows = yaml.safe_load(table.read_text())["vllm"]
    assert list(rows) == ["0.9.2", "0.30.0"]
    assert rows["0.9.2"]["flags"] == ["model", "port"]
    assert rows["0.30.0"]["flags"] == ["model", "new-flag"]
    assert rows["0.30.0"]["tool_call_parsers"] == ["hermes"]


def test_without_an_interpreter_it_says_how_it_is_used(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert engine_recorder.main([]) == 2
    assert "interpreter that has vLLM" in capsys.readouterr().err
    assert not table.exists()


def test_what_release_notes_say_of_versions_is_recorded() -> None:
    """The queue's bound came with 0.29.0; the time for running answers was there before."""
    versions = engine_versions()

    assert ["max-num-queued-reqs" in facts.flags for facts in versions.values()] == [False, False, True, True]
    assert all("shutdown-timeout" in facts.flags for facts in versions.values())
    assert all("llama3_json" in facts.tool_call_parsers for facts in versions.values())
