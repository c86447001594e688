"""The arithmetic of quotas, placeholders by line, and what the report says where AWS does not let it look."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from infra.settings import load
from infra.settings.environment_settings import Settings
from infra.settings.loader import FOLDER
from operations import preflight
from operations.bootstrap import CURRENT_VERSION
from operations.checks.machines import endpoint_need, job_needs
from operations.checks.placeholders import check_placeholders
from operations.checks.results import Mark
from tests.support.fake_aws import Reply, fake_aws, identity, query_error

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "settings"
REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("folder", "env", "least", "most"),
    [
        (FOLDER, "prod", 8, 16),  # 2 to 4 machines, a challenger, and both fleets of an update
        (FOLDER, "local", 4, 4),
        (FIXTURES, "two-regions", 8, 16),
        (FIXTURES, "scale-to-zero", 2, 4),  # no challenger there
        (FIXTURES, "async", 2, 6),
    ],
)
def test_an_update_doubles_the_fleet_and_a_challenger_doubles_it_again(
    folder: Path, env: str, least: int, most: int
) -> None:
    need = endpoint_need(load(env, folder))
    assert need is not None
    assert (need.count, need.at_full_size) == (least, most)
    assert ("challenger" in need.arithmetic) == (env not in ("scale-to-zero", "async"))


def test_a_serverless_endpoint_needs_no_machines() -> None:
    assert endpoint_need(load("serverless", FIXTURES)) is None


def test_jobs_count_one_machine_each() -> None:
    assert [(need.quota, need.count) for need in job_needs(load("prod"))] == [
        ("ml.g6e.2xlarge for training job usage", 1),
        ("ml.g6e.xlarge for processing job usage", 1),
    ]


def placeholders(folder: Path, env: str) -> list[tuple[str, Mark]]:
    target: Any = SimpleNamespace(name=env, is_laptop=False)
    return [(result.subject, result.mark) for result in check_placeholders(target, folder)]


def test_every_placeholder_of_the_shipped_file_is_named_by_its_line() -> None:
    lines = (FOLDER / "prod.yaml").read_text().splitlines()
    expected = [
        f"settings/prod.yaml:{number}"
        for number, line in enumerate(lines, start=1)
        if any(word in line.partition("# ")[0] for word in ("111122223333", "your-models", "@example.com"))
    ]
    found = placeholders(FOLDER, "prod")
    assert [subject for subject, mark in found if mark is Mark.FAILED] == expected
    assert len(expected) >= 3


def test_comments_are_no_placeholders_and_an_edited_file_passes(tmp_path: Path) -> None:
    text = (FOLDER / "prod.yaml").read_text()
    edited = (
        text.replace("111122223333", "445566778899")
        .replace("your-models", "acme")
        .replace("example.com", "acme.io")
    )
    (tmp_path / "prod.yaml").write_text(
        edited.replace('"0000"', '"4711"') + "# ask ml@example.com, 111122223333\n"
    )
    assert placeholders(tmp_path, "prod") == [("settings", Mark.PASSED)]


def test_the_bootstrap_version_is_the_pinned_command_lines() -> None:
    template = (
        REPOSITORY / "node_modules" / "aws-cdk" / "lib" / "api" / "bootstrap" / "bootstrap-template.yaml"
    )
    if not template.exists():
        pytest.skip("node_modules is not installed here")
    assert f"Value: '{CURRENT_VERSION}'" in template.read_text()


def report(capsys: pytest.CaptureFixture[str], env: str) -> tuple[int, str]:
    code = preflight.main(["--env", env])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out + err


@pytest.fixture
def operator(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.usefixtures("operator")
def test_a_wrong_account_ends_the_report_at_its_line(monkeypatch, capsys) -> None:
    with fake_aws({"GetCallerIdentity": identity("444455556666")}) as aws:
        monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
        code, text = report(capsys, "staging")
        assert set(aws.calls) == {"GetCallerIdentity"}
    assert code == 1
    assert "✗ identity" in text
    assert "444455556666" in text


@pytest.mark.usefixtures("operator")
def test_what_may_not_be_read_is_told_and_is_no_failure_of_its_own(monkeypatch, capsys) -> None:
    denied = Reply(
        400, '{"__type":"AccessDeniedException","message":"not authorized to perform: ssm:GetParameter"}'
    )
    replies = {"GetCallerIdentity": identity("111122223333"), "GetParameter": denied}
    with fake_aws(
        replies | {"DescribeStacks": query_error("AccessDenied", "not authorized: cloudformation")}
    ) as aws:
        monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
        _, text = report(capsys, "staging")
    assert "– bootstrap" in text
    assert "ssm:GetParameter" in text
    assert "✗ machines" in text  # this endpoint refuses Service Quotas otherwise than by a missing right


def test_quotas_of_the_laptop_cover_its_own_settings() -> None:
    table = yaml.safe_load((REPOSITORY / "local" / "cloud" / "service_quotas" / "quotas.yaml").read_text())
    values = {row["name"]: row["value"] for row in table["services"]["sagemaker"]["quotas"]}
    settings: Settings = load("local")
    need = endpoint_need(settings)
    assert need is not None
    for each in (need, *job_needs(settings)):
        assert values[each.quota] >= each.at_full_size, each
