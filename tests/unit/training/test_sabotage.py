"""The two data sets that must not lead to a release are what they claim to be."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from model_code.training.dataset import read_train
from model_code.training.prepare import PrepareSettings, prepare
from tests.support.training_data import FIXTURES


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    prepare([FIXTURES / "support_pairs.jsonl"], folder, PrepareSettings())
    return folder


def _sabotaged(kind: str, prepared: Path, output: Path) -> list:
    script = str(FIXTURES / "sabotage.py")
    subprocess.run([sys.executable, script, kind, str(prepared), str(output)], check=True, timeout=120)
    assert (output / "heldout.jsonl").read_bytes() == (prepared / "heldout.jsonl").read_bytes()
    pairs, _, card = read_train(output)
    assert card is None, "the data card of the honest data would lie about this one"
    return pairs


def test_shuffled_answers_belong_to_other_intents(prepared: Path, tmp_path: Path) -> None:
    honest, _, _ = read_train(prepared)
    pairs = _sabotaged("shuffled", prepared, tmp_path)
    assert [pair.prompt for pair in pairs] == [pair.prompt for pair in honest]
    intents_of_answer: dict[str, set[str]] = {}
    for pair in honest:
        intents_of_answer.setdefault(pair.answer, set()).add(pair.intent)
    assert all(pair.intent not in intents_of_answer[pair.answer] for pair in pairs)


def test_memorised_data_repeats_a_few_honest_pairs(prepared: Path, tmp_path: Path) -> None:
    honest, _, _ = read_train(prepared)
    pairs = _sabotaged("memorised", prepared, tmp_path)
    assert len(pairs) == len(honest)
    repeated = {(pair.prompt, pair.answer) for pair in pairs}
    assert len(repeated) <= 8
    assert repeated <= {(pair.prompt, pair.answer) for pair in honest}
    heldout = (json.loads(line) for line in (tmp_path / "heldout.jsonl").read_text().splitlines())
    assert not {answer for _, answer in repeated} & {item["answer"] for item in heldout}
