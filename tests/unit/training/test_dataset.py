"""The training channel is read strictly, and whole template groups are set aside for validation."""

from pathlib import Path

import pytest

from contracts.training import DATA_CARD_FILE
from model_code.training.dataset import read_train, split_validation
from model_code.training.hyperparameters import Hyperparameters
from model_code.training.job import TrainingError
from model_code.training.prepare import PrepareSettings, prepare
from tests.support.training_data import FIXTURES, pair, spelled, write_lines

GOOD = pair(1, "how?").model_dump()


def test_prepared_data_is_read_back_with_its_card(tmp_path: Path) -> None:
    card = prepare([FIXTURES / "support_pairs.jsonl"], tmp_path, PrepareSettings())
    pairs, digest, card_read = read_train(tmp_path)
    assert card_read == card
    assert digest == card.files[0]
    assert len(pairs) == digest.rows


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([GOOD, "{broken"], "train.jsonl line 2: line: Invalid JSON"),
        ([GOOD, {"id": "1"}], "train.jsonl line 2: user: Field required"),
        ([GOOD | {"answer": ""}], "train.jsonl line 1: answer: String should have at least 1"),
        ([GOOD | {"label": "x"}], "train.jsonl line 1: label: Extra inputs"),
        ([""], "train.jsonl is empty"),
    ],
)
def test_a_line_that_is_no_prepared_pair_is_named(tmp_path: Path, lines: list, reason: str) -> None:
    write_lines(tmp_path / "train.jsonl", lines)
    with pytest.raises(TrainingError, match=reason):
        read_train(tmp_path)


def test_a_missing_file_and_a_damaged_card_are_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"channel train has no train\.jsonl"):
        read_train(tmp_path)
    write_lines(tmp_path / "train.jsonl", [GOOD])
    (tmp_path / DATA_CARD_FILE).write_text('{"sources": []}')
    with pytest.raises(TrainingError, match=r"data_card\.json: evaluation_sets: Field required"):
        read_train(tmp_path)


def test_validation_takes_whole_groups_and_not_the_groups_of_the_held_out_side(tmp_path: Path) -> None:
    prepare([FIXTURES / "support_pairs.jsonl"], tmp_path, PrepareSettings(seed=0))
    pairs, _, _ = read_train(tmp_path)
    train, validation = split_validation(pairs, Hyperparameters(seed=0))
    assert 0.05 < len(validation) / len(pairs) < 0.3
    assert not {row.group for row in train} & {row.group for row in validation}
    assert len(train) + len(validation) == len(pairs)


def test_without_enough_groups_everything_trains() -> None:
    same = [pair(n, f"{spelled(n * 31)} lamp", group="one") for n in range(6)]
    for seed in range(20):
        assert split_validation(same, Hyperparameters(seed=seed)) == (same, [])
