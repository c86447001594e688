"""`why` names the cause: messages in the wording of AWS and the engines, and facts that were looked up."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from operations.diagnosis.causes import CAUSES, diagnose
from operations.diagnosis.evidence import Evidence, Source

RECORDED = Path(__file__).parents[2] / "fixtures" / "operations" / "failures.yaml"
Lines = list[dict[str, str]]
PLANTED: list[tuple[str, Lines]] = [
    (entry["cause"], entry["said"]) for entry in yaml.safe_load(RECORDED.read_text(encoding="utf-8"))
]
NO_GRANT = next(lines for name, lines in PLANTED if name == "missing-grant")


def evidence(lines: Lines) -> list[Evidence]:
    return [Evidence(Source(line["source"]), line["text"]) for line in lines]


def log(*lines: str) -> Lines:
    return [{"source": "container log", "text": line} for line in lines]


@pytest.mark.parametrize(("name", "lines"), PLANTED)
def test_the_planted_cause_is_the_most_likely_one(name: str, lines: Lines) -> None:
    first = diagnose(evidence(lines))[0]

    assert first.cause.name == name
    assert first.lines, "a cause is shown with what says so"


@pytest.mark.parametrize(("name", "lines"), PLANTED)
def test_other_lines_around_it_do_not_hide_it(name: str, lines: Lines) -> None:
    noise = log(
        "INFO api_server.py:1289] Loading middleware from /opt/ml/model/code/evergreen_hook.py",
        '{"level": "INFO", "message": "GET /ping 503"}',
        "WARNING Not enough SMs to use max_autotune_gemm mode",
        "Loading safetensors checkpoint shards: 100% Completed | 4/4",
        "INFO Available KV cache memory: 12.3 GiB",
    )

    assert diagnose(evidence([*noise, *lines, *noise]))[0].cause.name == name


def test_a_healthy_start_names_nothing() -> None:
    lines = log(
        "INFO Loading middleware from /opt/ml/model/code/evergreen_hook.py",
        "INFO non-default args: {'max_model_len': 8192, 'shutdown_timeout': 25}",
        "INFO # GPU blocks: 4021, memory usage 21 GiB, gpu_memory_utilization=0.9",
        'INFO: 169.254.178.2 - "GET /ping HTTP/1.1" 200 OK',
    )

    assert diagnose(evidence(lines)) == []


def test_the_same_words_mean_a_missing_grant_where_the_bucket_is_here() -> None:
    there = {
        "source": "region",
        "text": "bucket models is in region eu-west-1, and the environment is in us-east-1",
    }

    assert diagnose(evidence(NO_GRANT))[0].cause.name == "missing-grant"
    assert diagnose(evidence([*NO_GRANT, there]))[0].cause.name == "wrong-region"


def test_what_a_program_said_comes_before_a_fact_that_stands_higher_in_the_table() -> None:
    few = {"source": "quota", "text": "the quota 'x for endpoint usage' is 0, and the endpoint needs 2"}
    lines = [few, *log("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.")]

    assert [diagnosis.cause.name for diagnosis in diagnose(evidence(lines))] == ["out-of-memory", "quota"]


def test_the_table_and_the_recordings_cover_each_other() -> None:
    recorded = {name for name, _ in PLANTED}

    assert {cause.name for cause in CAUSES} - recorded == {"download-timeout", "busy"}
    assert all("{" not in cause.next_step.format(env="prod") for cause in CAUSES)
