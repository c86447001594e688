"""The command line: `score` one system, `compare` two, draw a `report` again, `collect` answers.

The only part of `evaluation` that reads files, writes files and looks at the clock.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from pydantic import ValidationError

from contracts.predictions import Prediction
from contracts.report import EvaluationReport
from evaluation.collect import ApiTarget, collect
from evaluation.evaluate import EvaluationSettings, evaluate
from evaluation.metrics import Metric
from evaluation.metrics.semantic import EncoderUnavailableError, minilm_encoder, semantic_metric
from evaluation.metrics.text import BLEU_TOKENIZERS
from evaluation.predictions import InputError, SystemPredictions, read_dataset, read_predictions
from evaluation.report.page import render

EXIT_CODES = {"promote": 0, "roll_back": 3, "inconclusive": 4}
BAD_INPUT = 2
KEY_VARIABLE = "EVERGREEN_API_KEY"


def main(arguments: Sequence[str]) -> int:
    """Run one command. 0 on success, 2 for bad input (one line on stderr); see `compare --exit-code`."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except (InputError, EncoderUnavailableError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    return code


def _score(options: argparse.Namespace) -> int:
    systems = [_read(options.predictions, options.name)]
    if options.baseline is not None:
        systems.insert(0, _read(options.baseline, options.baseline_name))
    return _evaluate_and_write(options, systems, exit_code=False)


def _compare(options: argparse.Namespace) -> int:
    systems = [
        _read(options.baseline, options.baseline_name),
        _read(options.candidate, options.name),
    ]
    return _evaluate_and_write(options, systems, exit_code=options.exit_code)


def _read(path: Path, name: str | None) -> SystemPredictions:
    return read_predictions(path, name or path.stem)


def _report(options: argparse.Namespace) -> int:
    try:
        text = options.report.read_text(encoding="utf-8")
        report = EvaluationReport.model_validate_json(text)
    except OSError as error:
        raise InputError(f"{options.report}: cannot be read: {error.strerror}") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise InputError(f"{options.report}: is not an evaluation report: {_first_line(error)}") from error
    out = options.out or options.report.with_suffix(".html")
    _write(out, render(report))
    print(out)
    return 0


def _collect(options: argparse.Namespace) -> int:
    key = options.api_key or os.environ.get(KEY_VARIABLE, "")
    if not key:
        raise InputError(f"no API key: set {KEY_VARIABLE}, or give --api-key")
    names = ("api_url", "model", "system_prompt", "max_tokens", "temperature", "timeout", "concurrency")
    try:
        target = ApiTarget(api_key=key, **{name: getattr(options, name) for name in names})
    except ValueError as error:
        raise InputError(str(error)) from error
    items = read_dataset(options.dataset)
    finished = failed = 0
    with _opened(options.out) as stream:

        def done(item: Prediction) -> None:
            nonlocal finished, failed
            stream.write(item.model_dump_json(exclude_none=True) + "\n")
            finished += 1
            failed += item.error is not None
            print(f"\r{finished} of {len(items)} asked, {failed} failed", end="", file=sys.stderr)

        collect(target, items, done)
    print(file=sys.stderr)
    print(options.out)
    return 0


def _opened(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error


def _evaluate_and_write(
    options: argparse.Namespace, systems: Sequence[SystemPredictions], *, exit_code: bool
) -> int:
    extra: list[Metric] = [semantic_metric(minilm_encoder())] if options.semantic else []
    dataset = options.dataset or systems[0].name
    report = evaluate(systems, dataset, _settings(options), datetime.now(UTC), extra)
    folder: Path = options.out
    _write(folder / "report.json", report.model_dump_json(indent=2) + "\n")
    _write(folder / "report.html", render(report))
    print(report.headline)
    print(folder / "report.html")
    if report.decision is not None and exit_code:
        return EXIT_CODES[report.decision.outcome]
    return 0


def _settings(options: argparse.Namespace) -> EvaluationSettings:
    given = {name: getattr(options, name) for name in _SETTING_OPTIONS if hasattr(options, name)}
    return EvaluationSettings(**given)


def _write(path: Path, text: str) -> None:
    with _opened(path) as stream:
        stream.write(text)


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}".removeprefix(": ")
    return str(error).splitlines()[0]


_SETTING_OPTIONS = frozenset(field.name for field in fields(EvaluationSettings))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m evaluation", description="Judge what a model answered.")
    commands = parser.add_subparsers(required=True, metavar="command")

    score = commands.add_parser("score", help="score one system's answers")
    score.add_argument("predictions", type=Path, help="predictions file (JSON Lines)")
    score.add_argument("--baseline", type=Path, help="predictions of the system to compare with")
    score.set_defaults(run=_score)
    compare = commands.add_parser("compare", help="compare a candidate with a baseline and decide")
    compare.add_argument("baseline", type=Path, help="predictions file of the baseline")
    compare.add_argument("candidate", type=Path, help="predictions file of the candidate")
    compare.add_argument(
        "--exit-code", action="store_true", help="exit 0 to promote, 3 to roll back, 4 when inconclusive"
    )
    compare.set_defaults(run=_compare)
    for command in (score, compare):
        _add_common(command)

    report = commands.add_parser("report", help="draw the page of an existing report.json again")
    report.add_argument("report", type=Path, help="report.json")
    report.add_argument("--out", type=Path, help="page to write (default: beside the report)")
    report.set_defaults(run=_report)
    _add_collect(commands.add_parser("collect", help="ask an OpenAI-compatible API and keep its answers"))
    return parser


def _add_collect(command: argparse.ArgumentParser) -> None:
    command.add_argument("dataset", type=Path, help="evaluation set: predictions lines without predictions")
    command.add_argument("--api-url", required=True, help="the API's address, ending in /v1")
    command.add_argument("--api-key", help=f"the key; better in the variable {KEY_VARIABLE}")
    command.add_argument("--model", required=True, help="the model's name")
    command.add_argument("--system-prompt", help="a system message before every prompt")
    command.add_argument("--max-tokens", type=_count, help="longest answer (default: the endpoint's limit)")
    command.add_argument("--temperature", type=_margin, default=0.0)
    command.add_argument("--timeout", type=_count, default=120, help="seconds per request")
    command.add_argument("--concurrency", type=_count, default=4, help="requests at once")
    command.add_argument("--out", type=Path, default=Path("predictions.jsonl"), help="file to write")
    command.set_defaults(run=_collect)


def _add_common(command: argparse.ArgumentParser) -> None:
    defaults = EvaluationSettings()
    text: dict[str, tuple[Callable[[str], object], str]] = {
        "title": (str, "title of the report"),
        "primary": (str, "metric that decides (default: token_f1, accuracy or perplexity, whichever fits)"),
        "quality-margin": (_margin, "gain asked for, or loss accepted, in the primary metric's unit"),
        "latency-metric": (str, "timing that must not get worse"),
        "latency-margin": (_margin, "accepted slowdown as a share: 0.1 is 10 %%"),
        "error-margin": (_margin, "accepted rise of the error rate as a fraction"),
        "alpha": (_share, "error budget of the decision"),
        "maximum-cut-share": (_margin, "answers cut at the limit of tokens above which nothing is decided"),
        "planned": (_count, "items that must be there before a promotion (default: all given)"),
        "resamples": (_count, "bootstrap resamples"),
        "seed": (int, "seed of the bootstrap"),
        "level": (_share, "coverage of the reported intervals"),
    }
    for name, (kind, help_text) in text.items():
        default = getattr(defaults, name.replace("-", "_"))
        command.add_argument(f"--{name}", type=kind, default=default, help=f"{help_text}; {default}")
    command.add_argument(
        "--goal",
        choices=["superior", "non_inferior"],
        default=defaults.goal,
        help="whether the candidate must be better, or not worse than the margin",
    )
    command.add_argument(
        "--bleu-tokenizer",
        choices=BLEU_TOKENIZERS,
        default=defaults.bleu_tokenizer,
        help="sacreBLEU's tokenizer; zh or char where words have no blanks between",
    )
    command.add_argument("--name", help="the candidate's name (default: the file's)")
    command.add_argument("--baseline-name", help="the baseline's name (default: the file's)")
    command.add_argument("--dataset", help="the evaluation set's name")
    command.add_argument("--semantic", action="store_true", help="add semantic similarity (needs torch)")
    command.add_argument("--out", type=Path, default=Path("evaluation-report"), help="folder to write")


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 1, not {text}")
    return value


def _margin(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of at least zero, not {text}")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return value
