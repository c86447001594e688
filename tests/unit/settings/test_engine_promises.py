"""The table of engines' promises is complete and shown by tests; what relies on a missing one is refused."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from infra import engines_reference
from infra.settings import SettingsError, load
from infra.settings.engine_promises import promise_table
from infra.settings.images import image_table
from infra.settings.loader import FOLDER
from tests.contract.differences import DIFFERENCES, NOT_ASKED, reason
from tests.support.peers import HOOKED, PLAIN

ROOT = Path(__file__).parents[3]
TABLE = promise_table()
SERVERS = {"vllm": HOOKED, "vllm-plain": PLAIN}
"""Servers of the table that the contract's suite knows by version."""


@pytest.mark.parametrize("name", TABLE.promises)
def test_each_server_stands_in_one_column(name):
    promise = TABLE.promises[name]
    named = [*promise.shown, *promise.own, *promise.lacking]

    assert sorted(named) == sorted(TABLE.servers)


@pytest.mark.parametrize("name", TABLE.promises)
def test_what_shows_a_promise_is_a_test_that_is_expected_to_pass(name):
    for server, test in TABLE.promises[name].shown.items():
        path, function = test.split("::")
        tree = ast.parse((ROOT / path).read_text())
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, test
        for version in SERVERS.get(server, []):
            assert not reason(DIFFERENCES, version, function), f"{version} is known to fail {function}"
            assert not reason(NOT_ASKED, version, function)


def test_the_page_is_current():
    committed = (ROOT / "docs" / "engines.md").read_text()

    assert committed == engines_reference.render(), "python -m infra.engines_reference > docs/engines.md"


EXAMPLES = Path(__file__).parents[2] / "fixtures" / "settings"
KEYS = {
    "max_queued_requests": 16,
    "default_max_tokens": 256,
    "request_timeout_seconds": 60,
    "max_adapters": 2,
    "stateful_sessions": "true",
    "tool_call_parser": "hermes",
}


def test_every_key_that_relies_on_a_promise_is_tried():
    lacking = {key for one in TABLE.promises.values() if "neuron" in one.lacking for key in one.keys}

    assert lacking == KEYS.keys()


@pytest.mark.parametrize("key", KEYS)
def test_a_key_that_the_neuron_image_would_not_read_is_refused_with_its_line(key, tmp_path):
    text = (EXAMPLES / "neuron.yaml").read_text()
    before = text.index("    max_running_requests: 4\n")
    text = f"{text[:before]}    {key}: {KEYS[key]}\n{text[before:]}"
    (tmp_path / "neuron.yaml").write_text(text)

    with pytest.raises(SettingsError) as caught:
        load("neuron", tmp_path)

    line = text[: text.index(f"    {key}: ")].count("\n") + 1
    assert f"neuron.yaml:{line}: '{key}' has no effect on vLLM on Neuron. " in str(caught.value)
    assert "example: remove the line" in str(caught.value)


@pytest.mark.parametrize("key", ["default_max_tokens", "request_timeout_seconds"])
def test_a_key_that_only_the_hook_reads_is_refused_without_it(key, tmp_path, monkeypatch):
    images = image_table().images  # a version that bounds its own queue, or `hook: false` is refused at once
    monkeypatch.setitem(
        images, "vllm-cuda-2.4", images["vllm-cuda-2.4"].model_copy(update={"engine_version": "0.32.0"})
    )
    lines = (FOLDER / "prod.yaml").read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.strip().startswith(("default_max_tokens", "request_timeout"))]
    text = "".join(kept).replace("    kind: vllm\n", "    kind: vllm\n    hook: false\n")
    (tmp_path / "prod.yaml").write_text(text)
    assert load("prod", tmp_path)

    wrong = text.replace("    hook: false\n", f"    hook: false\n    {key}: 60\n")
    (tmp_path / "prod.yaml").write_text(wrong)
    with pytest.raises(SettingsError, match=f"prod.yaml:.*'{key}' has no effect on vLLM, `hook` false"):
        load("prod", tmp_path)


def test_on_neuron_an_answer_is_as_long_as_the_context():
    settings = load("neuron", EXAMPLES)

    assert settings.evaluation_answer_tokens == settings.endpoint.engine.max_context_tokens
