"""What is read from a model folder before it is uploaded: tokenizer, chat template and architecture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_code import artefact_check
from tests.support.tiny_base import tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    return tmp_path


def checked(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert artefact_check.main([str(folder)]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def set_template(folder: Path, template: str | None) -> None:
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"chat_template": template}))


def test_a_usable_model_is_rendered_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = checked(folder, capsys)
    assert found["problem"] is None
    assert "Hello!" in str(found["prompt"])
    assert int(str(found["tokens"])) > 10
    assert found["transformers_knows"] is True


def test_an_architecture_of_nobodys_is_not_known(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "config.json").write_text(json.dumps({"architectures": ["OwnForCausalLM"]}))
    assert checked(folder, capsys)["transformers_knows"] is False


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (None, "no chat template"),
        ("{% for message in", "TemplateSyntaxError"),
        ("{{ raise_exception('no system turns') }}", "no system turns"),
        ("Welcome!", "leaves the user's message out"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ messages[7]['content'] }}", "template"),
    ],
)
def test_a_template_that_does_not_work_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str], template: str | None, words: str
) -> None:
    set_template(folder, template)
    assert words in str(checked(folder, capsys)["problem"])


def test_a_missing_tokenizer_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "tokenizer.json").unlink()
    assert checked(folder, capsys)["problem"] == "tokenizer.json is missing"
    (folder / "tokenizer.json").write_text("{")
    assert checked(folder, capsys)["problem"]
