"""`prove`: its parts, that it stops and cleans up after a failure, and that it takes no other environment."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from infra.settings import Settings, SettingsError, load
from infra.settings.loader import FOLDER
from operations.progress import CommandError
from operations.proof.change import VARIABLE, changed_assembly
from operations.proof.forced_alarm import ForcedAlarm
from operations.proof.load import load as put_load
from operations.proof.load import percentile
from operations.proof.report import Proof, StepRecord, markdown
from operations.proof.steps import STEPS, NotApplicableError, ProofContext, ProofStep, _judged
from operations.prove import Prover, command_runner, require_disposable
from operations.target import Target
from tests.support.recorded_aws import RecordedAccount, Refusal


@pytest.mark.parametrize("env", ["dev", "staging", "prod"])
def test_an_environment_that_is_not_disposable_is_refused_before_anything_is_asked(env: str) -> None:
    with pytest.raises(CommandError, match=f"settings/{env}.yaml does not call {env} disposable"):
        require_disposable(env)


def test_the_laptop_is_disposable() -> None:
    require_disposable("local")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("removal: { models: retain, records: destroy, access: destroy, logs: destroy }", "retains models"),
        ("production: true", "production is true"),
    ],
)
def test_disposable_and_keeping_contradict_each_other(tmp_path: Path, line: str, says: str) -> None:
    text = (FOLDER / "local.yaml").read_text(encoding="utf-8")
    removal = "removal: { models: destroy, records: destroy, access: destroy, logs: destroy }"
    new = (
        text.replace(removal, line)
        if line.startswith("removal")
        else text.replace(removal, f"{removal}\n  {line}")
    )
    (tmp_path / "local.yaml").write_text(new, encoding="utf-8")
    with pytest.raises(SettingsError, match=says) as refused:
        load("local", tmp_path)
    assert "disposable: false" in str(refused.value)


@pytest.fixture
def settings() -> Settings:
    return load("local")


@pytest.fixture
def prover(settings: Settings, tmp_path: Path) -> Prover:
    target = Target(settings, RecordedAccount({}), "", {})  # type: ignore[arg-type]
    context = ProofContext(target=target, source=None, licence=None, image=None, load_seconds=1)
    context.command = command_runner({}, lambda: context.log)
    return Prover(target, tmp_path, context)


def passes(context: ProofContext) -> tuple[str, dict[str, Any]]:
    context.deployed = True
    return "fine", {"seen": 1}


def fails(context: ProofContext) -> tuple[str, dict[str, Any]]:
    raise CommandError("the endpoint is Failed")


def does_not_apply(context: ProofContext) -> tuple[str, dict[str, Any]]:
    raise NotApplicableError("no alarms")


def test_after_a_failure_only_what_cleans_up_runs(prover: Prover, tmp_path: Path) -> None:
    steps = [
        ProofStep("deploy", passes),
        ProofStep("alarm", does_not_apply),
        ProofStep("change", fails, fleets=2),
        ProofStep("promotion", passes),
        ProofStep("destroy", passes, always=True),
    ]
    assert prover.run(steps) is False

    assert [(step.name, step.outcome) for step in prover.proof.steps] == [
        ("deploy", "passed"),
        ("alarm", "skipped"),
        ("change", "failed"),
        ("destroy", "passed"),
    ]
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "# Proof of local: failed" in report
    assert "| change | ✗ failed | 0 | the endpoint is Failed | 03-change.log |" in report


def test_the_shipped_steps_end_with_the_deletion_whatever_happens() -> None:
    assert STEPS[-1].name == "destroy"
    assert STEPS[-1].always
    assert [step.name for step in STEPS if not step.always][:2] == ["bootstrap", "preflight"]


def test_a_step_that_raises_something_unforeseen_still_leads_to_the_deletion(prover: Prover) -> None:
    def breaks(context: ProofContext) -> tuple[str, dict[str, Any]]:
        raise RuntimeError("unforeseen")

    assert prover.run([ProofStep("deploy", breaks), ProofStep("destroy", passes, always=True)]) is False
    assert [step.name for step in prover.proof.steps] == ["deploy", "destroy"]


def test_the_runner_keeps_the_output_and_names_the_last_line_of_a_failure(tmp_path: Path) -> None:
    log = tmp_path / "step.log"
    runner = command_runner({"PATH": ""}, lambda: log)

    assert "Zen" in runner("this")
    with pytest.raises(CommandError, match=r"`no_such_module` ended with 1: .*No module named"):
        runner("no_such_module")
    assert runner("no_such_module", may_fail=True) == ""
    text = log.read_text(encoding="utf-8")
    assert "$ python -m this" in text
    assert "Zen" in text


def proof(*steps: StepRecord) -> Proof:
    moment = datetime(2026, 11, 30, 12, tzinfo=UTC)
    return Proof(
        "sandbox", "111122223333", "us-east-1", "abc1234", moment, "1 × ml.g6.xlarge", 1.127, list(steps)
    )


def test_an_update_counts_two_fleets() -> None:
    record = proof(
        StepRecord("preflight", "passed", 600, fleets=0),
        StepRecord("deploy", "passed", 1800, fleets=1),
        StepRecord("guarded change", "passed", 3600, "a|b\nc", fleets=2, details={"answers": 3}),
    )
    assert record.usd == pytest.approx(1.127 * (0.5 + 2))
    page = markdown(record)
    assert "Took 100 minutes" in page
    assert "about 2.82 USD" in page
    assert "a\\|b c" in page
    assert '"answers": 3' in page
    assert f"| {'x' * 159}… |" in markdown(proof(StepRecord("first answer", "passed", 1, "x" * 500)))
    assert "# Proof of sandbox: passed" in page


def test_load_counts_answers_failures_and_times() -> None:
    asked = iter(range(6))
    lock = threading.Lock()

    def ask() -> Iterator[str]:
        with lock:
            number = next(asked)
        if number == 1:
            raise CommandError("the API answered 503: full")
        if number == 2:
            yield ""
            return
        yield ""
        yield "word"

    times = iter(range(100))
    remaining = iter([False] * 6 + [True] * 10)
    result = put_load(ask, 1, lambda: next(remaining), clock=lambda: float(next(times)))

    assert (result.answers, result.failures) == (4, 2)
    assert result.reasons == ["the API answered 503: full", "the answer was empty"]
    assert result.first_token_ms == [1000.0] * 4
    assert percentile([], 0.5) is None
    assert percentile([3, 1, 2], 0.95) == 3


def test_a_load_with_a_failure_fails_the_step() -> None:
    good = {"answers": 9, "failures": 0, "reasons": [], "first_token_ms_p95": 80.0}
    assert _judged(good) == "9 answers, none failed, first token p95 80.0 ms"
    with pytest.raises(CommandError, match="1 requests failed: 503"):
        _judged(good | {"failures": 1, "reasons": ["503"]})
    with pytest.raises(CommandError, match="no answer"):
        _judged({})


def test_the_changed_assembly_has_new_containers_under_a_new_address(tmp_path: Path) -> None:
    assembly = tmp_path / "prod"
    assembly.mkdir()
    container = {"Image": "old:1", "Environment": {"A": "b"}}
    template = json.dumps(
        {
            "Resources": {
                "Model": {"Type": "AWS::SageMaker::Model", "Properties": {"PrimaryContainer": container}},
                "Topic": {"Type": "AWS::SNS::Topic", "Properties": {}},
            }
        }
    )
    old = hashlib.sha256(template.encode()).hexdigest()
    (assembly / "serving.template.json").write_text(template)
    asset = {"source": {"path": "serving.template.json"}, "destinations": {"x": {"objectKey": f"{old}.json"}}}
    (assembly / "serving.assets.json").write_text(json.dumps({"files": {old: asset}}))
    artifact = {
        "type": "aws:cloudformation:stack",
        "properties": {
            "stackName": "evergreen-prod-serving",
            "templateFile": "serving.template.json",
            "stackTemplateAssetObjectUrl": f"s3://assets/{old}.json",
        },
    }
    (assembly / "manifest.json").write_text(json.dumps({"artifacts": {"serving": artifact}}))

    copy = changed_assembly(assembly, "evergreen-prod-serving", "7", image="new:2")

    text = (copy / "serving.template.json").read_text()
    new = hashlib.sha256(text.encode()).hexdigest()
    changed = json.loads(text)["Resources"]["Model"]["Properties"]["PrimaryContainer"]
    assert changed == {"Image": "new:2", "Environment": {"A": "b", VARIABLE: "7"}}
    for file in ("serving.assets.json", "manifest.json"):
        assert old not in (copy / file).read_text()
        assert new in (copy / file).read_text()
    assert json.loads((assembly / "serving.template.json").read_text()) == json.loads(template)


def test_a_forced_alarm_is_held_and_given_back() -> None:
    states: list[str] = []

    def set_state(asked: dict[str, Any]) -> dict[str, Any] | Refusal:
        states.append(asked["StateValue"])
        return Refusal("Throttling") if len(states) == 2 else {}

    recorded = RecordedAccount({"cloudwatch.SetAlarmState": set_state})
    with ForcedAlarm(recorded.client("cloudwatch"), "Errors", every_seconds=0.01):
        deadline = time.monotonic() + 10
        while len(states) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)

    assert len(states) >= 5, "CloudWatch's own evaluation would put it back"
    assert set(states[:-1]) == {"ALARM"}
    assert states[-1] == "OK"
