"""A hundred settings files as somebody might write them: each wrong one is refused at its line, none wrongly.

A row edits a shipped file. `at` is a piece of the edited text: the error must name its line. `says` stands in
the error; a row without it is accepted on purpose, and says why.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.settings import SettingsError, load
from infra.settings.loader import FOLDER

EXAMPLES = Path(__file__).parents[2] / "fixtures" / "settings"


@dataclass(frozen=True)
class Row:
    """One edit. Without `was` the text goes to the end; an empty `at` means the file's first line."""

    was: str
    now: str
    at: str = ""
    says: str = ""
    file: str = "prod"
    name: str = ""
    accepted: str = ""
    more: tuple[tuple[str, str], ...] = ()


PROD = {
    "key mistyped": Row("throttle:", "throttel:", "throttel:", "Did you mean 'throttle'?"),
    "word for a number": Row("memory_mb: 1024", "memory_mb: lots", "memory_mb: lots", "it holds 'lots'"),
    "negative": Row("min: 2,", "min: -1,", "min: -1", "it holds -1"),
    "max below min": Row("min: 2, max: 4", "min: 5, max: 4", "min: 5", "max 4 is below min 5"),
    "account unquoted": Row(
        'account: "111122223333"', "account: 111122223333", "account:", 'account: "111122223333"'
    ),
    "account that YAML reads as text": Row(
        'account: "111122223333"', "account: 012345678901", accepted="8 and 9 make it no octal number"
    ),
    "account that YAML reads as octal": Row(
        'account: "111122223333"', "account: 012345670123", "account:", "YAML reads 012345670123 as"
    ),
    "region mistyped": Row(
        "region: us-east-1",
        "region: us-esat-1",
        "region:",
        "'us-esat-1' is unknown. Did you mean 'us-east-1'?",
    ),
    "machine not in region": Row(
        "region: us-east-1",
        "region: sa-east-1",
        "type: ml.g6e",
        "ml.g6e.xlarge is not offered for hosting in",
    ),
    "machine mistyped": Row(
        "type: ml.g6e.xlarge", "type: ml.g6e.xlrage", "type: ml.g6e", "Did you mean 'ml.g6e.xlarge'?"
    ),
    "training machine mistyped": Row(
        "instance_type: ml.g6e.2xlarge",
        "instance_type: ml.g6e.2xlage",
        "instance_type: ml.g6e.2xlage",
        "no instance type 'ml.g6e.2xlage' for training. Did you mean 'ml.g6e.2xlarge'?",
    ),
    "vllm on a CPU": Row("type: ml.g6e.xlarge", "type: ml.c7i.xlarge", "type: ml.c7i", "computes on its CPU"),
    "vllm on inferentia": Row(
        "type: ml.g6e.xlarge", "type: ml.inf2.xlarge", "type: ml.inf2", "computes on Neuron cores"
    ),
    "neuron with a GPU image": Row(
        "kind: vllm", "kind: neuron", "max_queued", "'max_queued_requests' has no effect on vLLM on Neuron"
    ),
    "a misspelt tool parser": Row(
        "llama3_json",
        "lama3_json",
        "tool_call",
        "no tool call parser 'lama3_json'. Did you mean 'llama3_json'?",
    ),
    "canary of 60 %": Row("canary_percent: 10", "canary_percent: 60", "canary_percent", "it holds 60"),
    "canary of one machine": Row("min: 2, max: 4", "min: 1, max: 4", "deployment:", "at least 2 instances"),
    "bake of two hours": Row("bake_seconds: 900", "bake_seconds: 7200", "bake_seconds", "it holds 7200"),
    "start of two hours": Row(
        "startup_timeout_seconds: 1800",
        "startup_timeout_seconds: 7200",
        "startup_timeout",
        "it holds 7200",
    ),
    "rolling on realtime": Row(
        "kind: canary, canary_percent: 10", "kind: rolling", "kind: rolling", "does not name a known kind"
    ),
    "host image for Neuron": Row(
        "al2023-ami-sagemaker-inference-gpu-4-1",
        "al2-ami-sagemaker-inference-neuron-2",
        "inference_ami_version",
        "does not start on host image",
    ),
    "volume on NVMe": Row("max: 4 }", "max: 4, volume_gb: 64 }", "volume_gb: 64", "takes no volume size"),
    "training on inferentia": Row(
        "instance_type: ml.g6e.2xlarge",
        "instance_type: ml.inf2.xlarge",
        "instance_type: ml.inf2",
        "Inferentia cannot train",
    ),
    "production without a web ACL": Row(
        "waf: { enabled: true", "waf: { enabled: no", "enabled: no", "no web ACL"
    ),
    "a test environment without a web ACL": Row(
        "waf: { enabled: true", "waf: { enabled: no", file="staging", accepted="it is off on purpose"
    ),
    "log level on": Row(
        "memory_mb: 1024", "memory_mb: 1024\n  log_level: on", "log_level: on", "it holds True"
    ),
    "tag no": Row("team: ml-platform", "team: no", "team: no", 'team: "no"'),
    "tag 0000": Row('cost-centre: "0000"', "cost-centre: 0000", "cost-centre", 'cost-centre: "0000"'),
    "tag 1234": Row('cost-centre: "0000"', "cost-centre: 1234", "cost-centre", 'cost-centre: "1234"'),
    "key twice": Row("", "  poll_seconds: 7\n", "poll_seconds: 7", "stands here twice"),
    "alias": Row("stage: prod", "stage: *here", "*here", "refers to another place"),
    "merge key": Row(
        "throttle: { rate", "throttle: { <<: { burst: 9 }, rate", "<<", "'<<' merges another mapping in"
    ),
    "tab": Row("  stage: prod", "\tstage: prod", "\tstage", "this is not YAML"),
    "two documents": Row("", "---\ngoals: {}\n", "---\ngoals", "this is not YAML"),
    "bake in minutes and seconds": Row(
        "bake_seconds: 900", "bake_seconds: 15:00", "bake_seconds", "to the base of 60, as 900"
    ),
    "number in octal": Row("max: 4 }", "max: 010 }", "max: 010", "YAML reads 010 as 8"),
    "shipped as it is": Row(
        "", "\n", accepted="synth needs no account; `preflight` names what is a placeholder"
    ),
    "source without a slash": Row(
        "llama-3.1-8b-instruct/   #", "llama-3.1-8b-instruct   #", "source:", "with a slash at its end"
    ),
    "source over https": Row(
        "source: s3://your", "source: https://your", "source:", "an S3 address: s3://bucket/prefix/"
    ),
    "quota of none": Row("limit: 10000000,", "limit: 0,", "limit: 0", "it holds 0"),
    "rate of none": Row("rate_per_second: 100,", "rate_per_second: 0,", "rate_per_second", "it holds 0"),
    "rate of a million": Row(
        "rate_per_second: 100,", "rate_per_second: 1000000,", "rate_per_second", "it holds 1000000"
    ),
    "web ACL limit of 5": Row(
        "waf: { enabled: true", "waf: { enabled: true, requests_per_five_minutes: 5", "waf:", "it holds 5"
    ),
    "quota above a 32-bit number": Row(
        "limit: 10000000,", "limit: 3000000000,", "limit: 3000000000", "up to 2147483647"
    ),
    "all of the account's concurrency": Row(
        "reserved_concurrency: capacity",
        "reserved_concurrency: 1000",
        "reserved_concurrency",
        "a number up to 900",
    ),
    "cron of seven fields": Row(
        "cron(0 3 ? * SUN *)", "cron(0 3 * * * * *)", "schedule:", "six fields and this one 7"
    ),
    "cron without a question mark": Row(
        "cron(0 3 ? * SUN *)", "cron(0 3 * * * *)", "schedule:", "exactly one of day-of-month"
    ),
    "cron of five fields": Row("cron(0 3 ? * SUN *)", "0 3 * * SUN", "schedule:", "cron(…) or rate(…)"),
    "cron of five fields in cron()": Row(
        "cron(0 3 ? * SUN *)", "cron(0 3 * * SUN)", "schedule:", "six fields and this one 5"
    ),
    "shares that do not grow": Row("[0.05, 0.25, 0.5]", "[0.25, 0.05, 0.5]", "shares:", "do not grow"),
    "fewer samples than shares": Row(
        "[200, 500, 1000]", "[200, 500]", "planned_sample", "3 shares and 2 planned samples"
    ),
    "e-mail without @": Row("emails: [] ", "emails: [on-call] ", "emails:", "it holds 'on-call'"),
    "cost cap of 100": Row(
        "monthly_cost_cap_usd: 12000", "monthly_cost_cap_usd: 100", "monthly_cost_cap", "above the cap of 100"
    ),
    "answer above the context": Row(
        "default_max_tokens: 1024", "default_max_tokens: 9000", "default_max", "exceeds the context"
    ),
    "model name of 140": Row("name: llama-3.1", f"name: {'x' * 125}llama-3.1", "name: xx", "does not fit"),
    "version as a number": Row('version: "1"', "version: 1.10", "version:", 'version: "1.10"'),
    "tool parser mistyped": Row(
        "tool_call_parser: llama3_json", "tool_call_parser: lama3_json", "tool_call_parser", "llama3_json"
    ),
    "job of weeks": Row("max_minutes: 360", "max_minutes: 100000", "max_minutes", "up to 1440"),
    "tag of AWS's": Row("team: ml-platform", '"aws:team": x', "aws:team", "has AWS's own prefix"),
    "tag of 300": Row("team: ml-platform", f"team: {'x' * 300}", "team: xx", "a value of 300 characters"),
    "51 tags": Row(
        "team: ml-platform",
        ", ".join(f"t{number}: x" for number in range(48)),
        "tags:",
        "These are 51 tags",
    ),
    "stage with a space": Row("stage: prod", 'stage: "my prod"', "stage:", "it holds 'my prod'"),
    "origin without a scheme": Row(
        "cors_origins: [] ", "cors_origins: [app.example.com] ", "cors_origins", "scheme and host"
    ),
    "section without content": Row(
        "records:\n  ttl_days: 30", "records:", "records:\n", "'records' is empty"
    ),
    "list for a mapping": Row(
        "records:\n  ttl_days: 30", "records: [30]", "records: [30]", "does not fit: it holds [30]"
    ),
    "not a number": Row("ttft_ms: 800", "ttft_ms: .nan", "ttft_ms", "does not fit"),
    "infinite goal": Row(
        "cost_per_thousand_requests: 1.5",
        "cost_per_thousand_requests: .inf",
        "cost_per_thousand",
        "finite number",
    ),
    "empty value": Row("stage: prod", "stage:", "stage:", "'gateway.stage' is empty"),
    "processing machine not in region": Row(
        "region: us-east-1", "region: eu-west-3", "type: ml.g6e", "ml.g6e.xlarge is not offered for hosting"
    ),
}
FILES = {
    "environment of 61 characters": Row("", "\n", "", "SageMaker allows 63", name="x" * 61),
    "environment with an underscore": Row("", "\n", "", "'name' does not fit", name="my_env"),
    "environment in capitals": Row("", "\n", "", "'name' does not fit", name="Prod"),
    "byte order mark": Row(
        "# Production", "\ufeff# Production", accepted="YAML knows it, and editors write it"
    ),
    "Windows line ends": Row("\n", "\r\n", accepted="YAML knows them, and editors write them"),
}
# Further kinds: what no list of single keys would have.
MORE = {
    "concurrency below the machines": Row(
        "reserved_concurrency: capacity",
        "reserved_concurrency: 200",
        "reserved_concurrency",
        "200 requests in flight are fewer than the 768 that the machines hold",
    ),
    "concurrency in a word": Row(
        "reserved_concurrency: capacity",
        "reserved_concurrency: much",
        "reserved_concurrency",
        "'functions.reserved_concurrency' does not fit",
    ),
    "steps of an hour": Row(
        "kind: canary, canary_percent: 10, bake_seconds: 900",
        "kind: linear, step_percent: 10, bake_seconds: 3600",
        "bake_seconds: 3600",
        "With 10 times 3600 s an update may take 42000 s",
    ),
    "web ACL below the throttle": Row(
        "waf: { enabled: true",
        "waf: { enabled: true, requests_per_five_minutes: 3000",
        "waf:",
        "3000 requests in five minutes are fewer than the throttle's 30000",
    ),
    "address below a key": Row(
        "waf: { enabled: true",
        "waf: { enabled: true, requests_per_address: 59999",
        "waf:",
        "59999 requests of an address are fewer than a key's 60000",
    ),
    "machine with the wrong family": Row(
        "type: ml.g6e.xlarge", "type: ml.g66.xlarge", "type: ml.g66", "no instance type 'ml.g66.xlarge'"
    ),
    "alternative mistyped": Row(
        "max: 4 }", "max: 4, alternatives: [ml.g6e.3xlarge] }", "ml.g6e.3xlarge", "no instance type"
    ),
    "alternative not in region": Row(
        "type: ml.g6e.xlarge, min: 2, max: 4 }",
        "type: ml.g6.xlarge, min: 2, max: 4, alternatives: [ml.g6e.xlarge] }",
        "alternatives",
        "ml.g6e.xlarge is not offered for hosting in eu-west-2",
        more=(("region: us-east-1", "region: eu-west-2"),),
    ),
    "training machine not in region": Row(
        "instance_type: ml.c7i.2xlarge",
        "instance_type: ml.g6e.2xlarge",
        "instance_type: ml.g6e",
        "ml.g6e.2xlarge is not offered for training in eu-west-1",
        "local",
        more=(("region: us-east-1", "region: eu-west-1"),),
    ),
    "failover without the machine": Row(
        "",
        "failover: { region: eu-west-1, instances: { type: ml.g6e.xlarge, min: 1, max: 1 } }\n",
        "failover: { region",
        "ml.g6e.xlarge is not hosted in eu-west-1",
    ),
    "failover region mistyped": Row(
        "",
        "failover: { region: us-wset-2, instances: { type: ml.g6e.xlarge, min: 1, max: 1 } }\n",
        "failover: { region",
        "Did you mean 'us-west-2'?",
    ),
    "zero machines where a region keeps one": Row(
        "type: ml.g6e.xlarge",
        "type: ml.g6.xlarge",
        "min: 0, max: 2 }",
        "An endpoint in eu-west-3 keeps a machine",
        "scale-to-zero",
        more=(("region: us-east-1", "region: eu-west-3"),),
    ),
    "zones of another region": Row(
        "us-east-1a",
        "us-west-2a",
        "availability_zones",
        "The zone us-west-2a is not in us-east-1",
        file="pools",
    ),
    "hexadecimal": Row("ttl_days: 30", "ttl_days: 0x1e", "ttl_days", "YAML reads 0x1e as 30"),
    "time of day as a text key's value": Row(
        "team: ml-platform", "team: 12:30", "team: 12:30", "to the base of 60"
    ),
    "date for a text": Row("team: ml-platform", "team: 2026-11-30", "team: 2026", 'team: "2026-11-30"'),
    "tag of characters AWS refuses": Row("team: ml-platform", "team: 'a;b'", "team:", "does not take: 'a;b'"),
    "tag without a key": Row("team: ml-platform", "'': x", "tags:", "a key of 0 characters"),
    "price of a machine that is none": Row(
        "monthly_cost_cap_usd: 12000",
        "prices_usd_per_hour: { g6e.xlarge: 1.0 }\n  monthly_cost_cap_usd: 12000",
        "prices_usd",
        "does not fit",
    ),
    "price of nothing": Row(
        "monthly_cost_cap_usd: 12000",
        "prices_usd_per_hour: { ml.g6e.xlarge: 0 }\n  monthly_cost_cap_usd: 12000",
        "prices_usd",
        "it holds 0",
    ),
    "machine without a price": Row(
        "type: ml.g6e.xlarge", "type: ml.g6e.8xlarge", "environment:", "No price is known for ml.g6e.8xlarge"
    ),
    "infinite cap": Row(
        "monthly_cost_cap_usd: 12000", "monthly_cost_cap_usd: .inf", "monthly_cost_cap", "finite number"
    ),
    "approver without a host": Row(
        "approvers: [ml-lead@example.com]", "approvers: [ml-lead@]", "approvers", "e-mail addresses"
    ),
    "two addresses in one": Row(
        "emails: [] ", "emails: ['a@example.com, b@example.com'] ", "emails", "e-mail addresses"
    ),
    "origin with a path": Row(
        "cors_origins: [] ", "cors_origins: ['https://a.example/app'] ", "cors_origins", "no path"
    ),
    "origin with a slash": Row(
        "cors_origins: [] ", "cors_origins: ['https://a.example/'] ", "cors_origins", "no path"
    ),
    "schedule at hour 24": Row("cron(0 3 ?", "cron(0 24 ?", "schedule:", "'24' are no hours"),
    "schedule of a day that is none": Row("? * SUN", "? * SUNDAY", "schedule:", "'SUNDAY' is not a day"),
    "rate of one in the plural": Row("cron(0 3 ? * SUN *)", "rate(1 days)", "schedule:", "one is singular"),
    "rate without a unit": Row("cron(0 3 ? * SUN *)", "rate(7)", "schedule:", "minutes, hours or days"),
    "night at a place that is none": Row(
        "timezone: Europe/Berlin",
        "timezone: Europe/Berln",
        "Europe/Berln",
        "'Europe/Berln' is unknown",
        file="pools",
    ),
    "body above what an event holds": Row(
        "max_body_bytes: 1048576", "max_body_bytes: 6291456", "max_body_bytes", "up to 5000000"
    ),
    "concurrency of a new account": Row(
        "reserved_concurrency: capacity",
        "reserved_concurrency: 200\n  account_concurrency: 10",
        "reserved_concurrency",
        "200 of the account's 10 cannot be reserved",
    ),
    "concurrency that was raised": Row(
        "reserved_concurrency: capacity",
        "reserved_concurrency: 2000\n  account_concurrency: 5000",
        accepted="the account's limit was raised",
    ),
    "production that forgets its keys": Row(
        "access: retain", "access: destroy", "access: destroy", "would delete access"
    ),
    "goal of 64 bits": Row("ttft_ms: 800", "ttft_ms: 9999999999", "ttft_ms", "up to 3600000"),
    "account of another form": Row(
        "iam: { enabled: true }",
        "iam: { enabled: true, accounts: ['123'] }",
        "iam:",
        "twelve digits",
        "local",
    ),
}
TRACING = {
    "half a price": Row(
        '  version: "1"\n',
        '  version: "1"\n  input_token_price: 0.1\n',
        "model:",
        "Only one of the two token prices",
    ),
    "spans to X-Ray": Row(
        "", "tracing: { kind: xray, sample_ratio: 0.5 }\n", accepted="X-Ray's own endpoint"
    ),
    "spans to a collector": Row(
        "", "tracing: { kind: otlp, url: https://c.example.com/v1/traces }\n", accepted="a collector"
    ),
    "spans in clear": Row(
        "", "tracing:\n  kind: otlp\n  url: http://c.example.com/v1/traces\n", "url: http://c.", "use https"
    ),
    "spans to a host": Row(
        "", "tracing:\n  kind: otlp\n  url: https://c.example.com\n", "url: https://c.", "/v1/traces"
    ),
    "spans to nobody": Row("", "tracing: { kind: otlp }\n", "tracing: { kind: otlp", "url"),
    "spans off by a word": Row("", "tracing: off\n", "tracing: off", "kind"),
    "more than all spans": Row(
        "",
        "tracing: { kind: xray, sample_ratio: 5 }\n",
        "tracing: { kind: xray, sample_ratio: 5",
        "it holds 5",
    ),
    "X-Ray on the laptop": Row("", "tracing: { kind: xray }\n", "tracing: {", "no X-Ray", "local"),
}
ROWS = PROD | FILES | MORE | TRACING


def edited(row: Row) -> str:
    folder = EXAMPLES if (EXAMPLES / f"{row.file}.yaml").exists() else FOLDER
    text = (folder / f"{row.file}.yaml").read_text()
    assert row.was in text
    for was, now in row.more:
        assert was in text
        text = text.replace(was, now, 1)
    return text.replace(row.was, row.now, -1 if row.was == "\n" else 1) if row.was else text + row.now


def line_of(text: str, piece: str) -> int:
    return text[: text.index(piece)].count("\n") + 1 if piece else 1


@pytest.mark.parametrize("row", [pytest.param(row, id=name) for name, row in ROWS.items()])
def test_a_wrong_file_is_refused_at_its_line_and_a_right_one_is_not(tmp_path: Path, row: Row) -> None:
    name = row.name or row.file
    text = edited(row)
    path = tmp_path / f"{name}.yaml"
    path.write_bytes(text.encode())
    if row.accepted:
        load(name, tmp_path)
        return
    with pytest.raises(SettingsError) as caught:
        load(name, tmp_path)

    message = str(caught.value)
    assert message.startswith(f"{path}:{line_of(text, row.at)}: ")
    assert row.says in message
    assert re.search(r"^  (allowed|example): .", message, re.MULTILINE)


@pytest.mark.parametrize("content", [b"", b"# nothing yet\n", "goals: {}\n".encode("utf-16")])
def test_a_file_without_sections_is_refused_at_its_first_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "prod.yaml").write_bytes(content)

    with pytest.raises(SettingsError, match=r"prod\.yaml:1: "):
        load("prod", tmp_path)


def test_these_are_a_hundred() -> None:
    assert len(ROWS) + 3 >= 100
