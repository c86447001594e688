"""Prepares a data set for training: clean, remove repeats and contamination, split, write, account for it.

    python -m model_code.training.prepare --input pairs.jsonl --output out/ [--evaluation-set suite.jsonl]

Runs as a SageMaker processing job or by hand, in any environment with pydantic: needs no torch. Must not
know how a model is trained.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ConfigDict, Field

from contracts.artefact import file_sha256
from contracts.training import (
    DATA_CARD_FILE,
    HELDOUT_FILE,
    TRAIN_FILE,
    DataCard,
    FileDigest,
    SideCount,
    SupportPair,
)
from model_code.training.reading import DataError, Treatment, read_pairs, read_texts
from model_code.training.splitting import (
    SplitError,
    check_split,
    split,
    without_contamination,
    without_repeats,
)

PROCESSING_INPUT = Path("/opt/ml/processing/input")
PROCESSING_OUTPUT = Path("/opt/ml/processing/output")


class PrepareSettings(BaseModel):
    """Settings of one preparation. Similarities are Jaccard over runs of three words."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    heldout_fraction: float = Field(default=0.3, gt=0, lt=1)
    similarity: float = Field(default=0.8, gt=0, le=1)
    seed: int = 0
    treatment: Treatment = Treatment()


def _write_pairs(path: Path, pairs: Sequence[SupportPair]) -> FileDigest:
    path.write_text("".join(pair.model_dump_json() + "\n" for pair in pairs), encoding="utf-8")
    return FileDigest(name=path.name, sha256=file_sha256(path), rows=len(pairs))


def _count(pairs: Sequence[SupportPair]) -> SideCount:
    return SideCount(
        rows=len(pairs), users=len({pair.user for pair in pairs}), groups=len({pair.group for pair in pairs})
    )


def prepare(
    inputs: Sequence[Path], output: Path, settings: PrepareSettings, evaluation_sets: Sequence[Path] = ()
) -> DataCard:
    """Write `train.jsonl`, `heldout.jsonl` and `data_card.json` into `output`; returns the card.

    Same inputs and settings give the same bytes. Raises DataError for a line that is not fit, and
    SplitError when no split without shared users, groups and near-duplicates can be made.
    """
    raw = read_pairs(inputs, settings.treatment)
    evaluation_texts, evaluation_digests = read_texts(evaluation_sets)
    pairs, repeats = without_repeats(raw.pairs, settings.similarity)
    sides = split(
        pairs, fraction=settings.heldout_fraction, threshold=settings.similarity, seed=settings.seed
    )
    train, contaminated = without_contamination(sides.train, evaluation_texts, settings.similarity)
    if not train:
        raise SplitError("no training pair is left: the evaluation sets given hold all of them")
    check_split(train, sides.heldout, settings.similarity)

    output.mkdir(parents=True, exist_ok=True)
    files = [_write_pairs(output / TRAIN_FILE, train), _write_pairs(output / HELDOUT_FILE, sides.heldout)]
    drops = raw.dropped + repeats + sides.dropped + contaminated
    card = DataCard(
        sources=raw.sources,
        evaluation_sets=evaluation_digests,
        files=files,
        rows_read=raw.rows_read,
        dropped=dict(sorted(drops.items())),
        masked=dict(sorted(raw.masked.items())),
        train=_count(train),
        heldout=_count(sides.heldout),
        settings=settings.model_dump(),
    )
    (output / DATA_CARD_FILE).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return card


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m model_code.training.prepare", description=__doc__)
    parser.add_argument("--input", type=Path, action="append", help="file or folder of .jsonl; repeatable")
    parser.add_argument("--output", type=Path, default=PROCESSING_OUTPUT)
    parser.add_argument("--evaluation-set", type=Path, action="append", default=[])
    parser.add_argument("--heldout-fraction", type=float, default=PrepareSettings().heldout_fraction)
    parser.add_argument("--similarity", type=float, default=PrepareSettings().similarity)
    parser.add_argument("--seed", type=int, default=PrepareSettings().seed)
    for name, rule in Treatment.model_fields.items():
        choices = get_args(rule.annotation)  # the members of the field's Literal
        parser.add_argument(f"--{name.replace('_', '-')}", choices=choices, default=rule.default)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: prints the card as one JSON line; a refusal is one sentence on stderr and code 1."""
    given = _parser().parse_args(arguments)
    try:
        settings = PrepareSettings(
            heldout_fraction=given.heldout_fraction,
            similarity=given.similarity,
            seed=given.seed,
            treatment=Treatment(**{name: getattr(given, name) for name in Treatment.model_fields}),
        )
        card = prepare(given.input or [PROCESSING_INPUT], given.output, settings, given.evaluation_set)
    except (DataError, SplitError) as error:
        print(f"data preparation refused: {error}", file=sys.stderr)
        return 1
    print(json.dumps(card.model_dump()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
