"""Preparing a data set end to end: bad lines named, everything accounted for, no leak, same bytes twice."""

import json
from pathlib import Path

import pytest

from contracts.artefact import file_sha256
from contracts.training import DataCard, SupportPair
from model_code.training.prepare import PrepareSettings, main, prepare
from model_code.training.reading import DataError, Treatment, read_pairs
from model_code.training.splitting import check_split
from tests.support.training_data import FIXTURES, spelled, write_lines

GOOD = {"prompt": "Where is my lamp?", "answer": "Look at the Parcels page."}
SUPPORT_PAIRS = FIXTURES / "support_pairs.jsonl"

BAD_LINES = [
    ('{"prompt": "cut off', "broken", "not a JSON object"),
    ("[1, 2]", "broken", "dictionary"),
    ({"prompt": "no answer"}, "broken", "answer"),
    ({"prompt": " \n\t", "answer": "x"}, "empty", "prompt is empty"),
    ({"prompt": "x", "answer": ""}, "empty", "answer is empty"),
    ({"prompt": "x", "answer": "Your order {{Order Number}} left"}, "placeholder", "{{Order Number}}"),
    ({"prompt": "mail jo@example.org", "answer": "x"}, "personal_data", "email"),
    ({"prompt": "x", "answer": "call +44 20 7946 0018"}, "personal_data", "phone"),
    ({"prompt": "card 4111 1111 1111 1111", "answer": "x"}, "personal_data", "card"),
    ({"prompt": "x" * 40_000, "answer": "x"}, "too_long", "40000 characters"),
]


@pytest.mark.parametrize(("line", "setting", "complaint"), BAD_LINES)
def test_a_bad_line_is_one_error_with_file_and_line(
    tmp_path: Path, line, setting: str, complaint: str
) -> None:
    path = write_lines(tmp_path / "pairs.jsonl", [GOOD, line])
    with pytest.raises(DataError) as refusal:
        read_pairs([path], Treatment())
    message = str(refusal.value)
    assert message.startswith("pairs.jsonl line 2: ")
    assert complaint in message
    assert f"set {setting} to drop" in message
    assert "jo@example.org" not in message
    assert "4111" not in message


@pytest.mark.parametrize(("line", "setting", "complaint"), BAD_LINES)
def test_a_bad_line_can_be_dropped_and_is_counted(tmp_path: Path, line, setting: str, complaint: str) -> None:
    path = write_lines(tmp_path / "pairs.jsonl", [GOOD, line])
    data = read_pairs([path], Treatment(**{setting: "drop"}))
    assert [pair.prompt for pair in data.pairs] == [GOOD["prompt"]]
    assert dict(data.dropped) == {setting: 1}
    assert data.rows_read == 2


def test_masking_repairs_prompts_but_drops_answers_that_hold_personal_data(tmp_path: Path) -> None:
    rows = [
        {"prompt": "I am jo@example.org, where is my lamp?", "answer": "On its way."},
        {"prompt": "Who are you?", "answer": "Write to help@example.org"},
    ]
    data = read_pairs([write_lines(tmp_path / "p.jsonl", rows)], Treatment(personal_data="mask"))
    assert [pair.prompt for pair in data.pairs] == ["I am my e-mail address, where is my lamp?"]
    assert dict(data.masked) == {"personal_data": 1}
    assert dict(data.dropped) == {"personal_data": 1}


def test_users_become_pseudonyms_and_rows_without_user_or_group_get_their_own(tmp_path: Path) -> None:
    rows = [GOOD | {"user": "jo@example.org", "group": "g"}, GOOD, GOOD]
    data = read_pairs([write_lines(tmp_path / "p.jsonl", rows)], Treatment())
    named, first, second = data.pairs
    assert "jo" not in named.user
    assert len({named.user, first.user, second.user}) == 3
    assert len({named.group, first.group, second.group}) == 3


def test_published_column_names_are_understood(tmp_path: Path) -> None:
    rows = [{"id": "b-1", "instruction": "how?", "response": "so.", "intent": "i", "category": "C"}]
    (only,) = read_pairs([write_lines(tmp_path / "p.jsonl", rows)], Treatment()).pairs
    assert (only.id, only.prompt, only.answer, only.intent) == ("b-1", "how?", "so.", "i")


def test_nothing_fit_to_train_on_is_an_error(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "p.jsonl", ["{", "{"])
    with pytest.raises(DataError, match="none of the 2 lines"):
        read_pairs([path], Treatment(broken="drop"))
    with pytest.raises(DataError, match=r"no \.jsonl file"):
        read_pairs([tmp_path / "absent"], Treatment())


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DataCard]:
    folder = tmp_path_factory.mktemp("prepared")
    return folder, prepare([SUPPORT_PAIRS], folder, PrepareSettings())


def _pairs(path: Path) -> list[SupportPair]:
    return [SupportPair.model_validate_json(line) for line in path.read_text().splitlines()]


def test_the_support_fixture_splits_without_a_leak(prepared: tuple[Path, DataCard]) -> None:
    folder, _ = prepared
    train, heldout = _pairs(folder / "train.jsonl"), _pairs(folder / "heldout.jsonl")
    check_split(train, heldout, PrepareSettings().similarity)
    assert not {pair.answer for pair in train} & {pair.answer for pair in heldout}
    assert {pair.intent for pair in heldout} <= {pair.intent for pair in train}
    assert len(train) >= 150
    assert len(heldout) >= 80


def test_the_card_accounts_for_every_row_and_byte(prepared: tuple[Path, DataCard]) -> None:
    folder, card = prepared
    assert card.rows_read == card.train.rows + card.heldout.rows + sum(card.dropped.values())
    assert card.sources[0].sha256 == file_sha256(SUPPORT_PAIRS)
    for entry in card.files:
        assert entry.sha256 == file_sha256(folder / entry.name)
        assert entry.rows == len(_pairs(folder / entry.name))
    assert DataCard.model_validate_json((folder / "data_card.json").read_bytes()) == card


def test_the_same_input_gives_the_same_bytes(prepared: tuple[Path, DataCard], tmp_path: Path) -> None:
    folder, card = prepared
    assert prepare([SUPPORT_PAIRS], tmp_path, PrepareSettings()) == card
    for name in ("train.jsonl", "heldout.jsonl", "data_card.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_published_support_rows_need_their_holes_filled(tmp_path: Path) -> None:
    rows = FIXTURES / "bitext_rows.jsonl"
    with pytest.raises(DataError, match="placeholder"):
        prepare([rows], tmp_path, PrepareSettings())
    card = prepare([rows], tmp_path, PrepareSettings(treatment=Treatment(placeholder="fill"), seed=1))
    assert card.masked["placeholder"] > 0
    assert "{{" not in (tmp_path / "train.jsonl").read_text() + (tmp_path / "heldout.jsonl").read_text()


def test_evaluation_items_are_kept_out_of_training(prepared: tuple[Path, DataCard], tmp_path: Path) -> None:
    leaked = _pairs(prepared[0] / "train.jsonl")[0]
    suite = write_lines(
        tmp_path / "suite.jsonl", [{"question": leaked.prompt, "nested": ["short", {"a": "b"}]}]
    )
    card = prepare([SUPPORT_PAIRS], tmp_path / "out", PrepareSettings(), [suite])
    assert card.dropped["contaminated"] >= 1
    assert leaked.prompt not in {pair.prompt for pair in _pairs(tmp_path / "out" / "train.jsonl")}
    assert card.evaluation_sets[0].rows == 1


def test_the_command_line_prints_the_card_or_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = "lamp rug desk chair sofa vase tray bed stool"
    rows = [
        {"prompt": f"{spelled(n * 37)} {item} question", "answer": f"{spelled(n * 91)} {item}"}
        for n, item in enumerate(items.split())
    ]
    path = write_lines(tmp_path / "p.jsonl", [*rows, "{broken"])
    assert main(["--input", str(path), "--output", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("data preparation refused: p.jsonl line 10: ")
    assert captured.err.count("\n") == 1
    assert main(["--input", str(path), "--output", str(tmp_path / "out"), "--broken", "drop"]) == 0
    assert json.loads(capsys.readouterr().out)["dropped"]["broken"] == 1


def test_data_that_cannot_be_split_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [GOOD | {"user": "one", "prompt": f"{spelled(n * 13)} lamp"} for n in range(5)]
    path = write_lines(tmp_path / "p.jsonl", [row | {"group": "same"} for row in rows])
    assert main(["--input", str(path), "--output", str(tmp_path / "out")]) == 1
    assert "side is empty" in capsys.readouterr().err
