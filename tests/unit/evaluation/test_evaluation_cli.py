"""The command line: files in, report out, one clear sentence for bad input."""

import json

import pytest

from contracts.report import EvaluationReport
from evaluation.cli import main
from tests.support.evaluation_data import system, write_lines

FAST = ["--resamples", "200"]


@pytest.fixture
def files(tmp_path):
    return [
        str(write_lines(tmp_path / f"{name}.jsonl", system(name, loss=loss).predictions))
        for name, loss in (("old", 0.5), ("new", 0.2))
    ]


def test_compare_writes_a_report_and_says_the_verdict(files, tmp_path, capsys):
    out = tmp_path / "out"

    code = main(["compare", *files, "--out", str(out), "--dataset", "support", *FAST])

    assert code == 0
    report = EvaluationReport.model_validate_json((out / "report.json").read_text())
    assert capsys.readouterr().out.splitlines() == [report.headline, str(out / "report.html")]
    assert (report.dataset.name, [one.name for one in report.systems]) == ("support", ["old", "new"])
    assert "Promote" in (out / "report.html").read_text()


@pytest.mark.parametrize(("order", "code"), [((0, 1), 0), ((1, 0), 3), ((0, 0), 4)])
def test_exit_codes_follow_the_decision_on_request(files, tmp_path, order, code):
    arguments = ["compare", *(files[at] for at in order), "--name", "candidate", "--out", str(tmp_path / "o")]

    assert main([*arguments, "--exit-code", *FAST]) == code
    assert main([*arguments, *FAST]) == 0


def test_score_takes_one_system_or_a_baseline_too(files, tmp_path, capsys):
    assert main(["score", files[1], "--out", str(tmp_path / "one"), *FAST]) == 0
    assert "new reaches a token F1" in capsys.readouterr().out
    assert main(["score", files[1], "--baseline", files[0], "--out", str(tmp_path / "two"), *FAST]) == 0
    assert "Promote" in capsys.readouterr().out


def test_report_draws_the_same_page_again(files, tmp_path, capsys):
    main(["compare", *files, "--out", str(tmp_path), *FAST])
    page = (tmp_path / "report.html").read_text()
    (tmp_path / "report.html").unlink()

    assert main(["report", str(tmp_path / "report.json")]) == 0
    assert (tmp_path / "report.html").read_text() == page


GOOD = {"id": "1", "prediction": "a", "references": ["a"]}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], ":1: Invalid JSON: EOF while parsing an object at line 1 column 1"),
        ([GOOD, "", {"id": "2"}], ":3: prediction: Field required"),
        ([GOOD, GOOD], ":2: id '1' is already on line 1"),
        ([{**GOOD, "tokens": 3}], ":1: tokens: Extra inputs are not permitted"),
        ([{**GOOD, "references": "a"}], ":1: references: Input should be a valid array"),
        (
            [{**GOOD, "ttft_ms": 9.0, "duration_ms": 3.0}],
            ":1: Value error, ttft_ms 9.0 is above",
        ),
        ([{**GOOD, "duration_ms": -1}], ":1: duration_ms: Input should be greater than or equal to 0"),
        (
            [{**GOOD, "token_logprobs": [0.5]}],
            ":1: token_logprobs.0: Input should be less than",
        ),
        ([""], ": holds no items"),
        ([{"id": "1", "prediction": "a"}], "nothing to judge: no item has references"),
    ],
)
def test_bad_lines_get_one_error_with_file_and_line(tmp_path, capsys, lines, message):
    path = write_lines(tmp_path / "bad.jsonl", lines)

    code = main(["score", str(path), "--out", str(tmp_path / "out"), *FAST])

    captured = capsys.readouterr()
    assert code == 2
    assert message in captured.err
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_text_or_not_there(tmp_path, capsys):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")

    assert main(["score", str(tmp_path / "binary")]) == 2
    assert ":1: " in capsys.readouterr().err
    assert main(["score", str(tmp_path / "absent.jsonl")]) == 2
    assert "absent.jsonl: cannot be read: No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{}", "not json", json.dumps({"version": "9"})])
def test_report_refuses_what_is_no_report(tmp_path, capsys, content):
    path = tmp_path / "report.json"
    path.write_text(content)

    assert main(["report", str(path)]) == 2
    assert "is not an evaluation report" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [["--alpha", "2"], ["--latency-margin", "-1"], ["--resamples", "0"], ["--level", "x"]]
)
def test_impossible_options_are_refused(files, option, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["compare", *files, *option])

    assert stopped.value.code == 2
    assert option[0] in capsys.readouterr().err


def test_semantic_similarity_says_what_it_needs(files, monkeypatch, capsys):
    monkeypatch.setattr("evaluation.metrics.semantic.WEIGHTS_PACKAGE", "no_such_package")

    assert main(["score", files[0], "--semantic"]) == 2
    assert "requirements/evaluation-semantic.txt" in capsys.readouterr().err
