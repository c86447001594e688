"""The `train` channel of a job: prepared pairs read back, and the validation pairs set aside. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from contracts.artefact import file_sha256
from contracts.training import DATA_CARD_FILE, TRAIN_FILE, DataCard, FileDigest, SupportPair
from model_code.training.hyperparameters import Hyperparameters
from model_code.training.job import TrainingError
from model_code.training.reading import lines_of
from model_code.training.splitting import clusters_of, is_set_aside

VALIDATION_SIMILARITY = 0.8


def read_train(folder: Path) -> tuple[list[SupportPair], FileDigest, DataCard | None]:
    """The prepared pairs, the file's digest and the data card beside it, if any.

    Raises TrainingError naming the line that is no prepared pair.
    """
    path = folder / TRAIN_FILE
    if not path.is_file():
        raise TrainingError(f"channel train has no {TRAIN_FILE}: prepare the data first")
    pairs = []
    for number, line in lines_of(path):
        try:
            pairs.append(SupportPair.model_validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "line"
            raise TrainingError(f"{TRAIN_FILE} line {number}: {field}: {first['msg']}") from None
    if not pairs:
        raise TrainingError(f"{TRAIN_FILE} is empty")
    return pairs, FileDigest(name=TRAIN_FILE, sha256=file_sha256(path), rows=len(pairs)), _card(folder)


def _card(folder: Path) -> DataCard | None:
    path = folder / DATA_CARD_FILE
    if not path.is_file():
        return None
    try:
        return DataCard.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise TrainingError(f"{DATA_CARD_FILE}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def split_validation(
    pairs: Sequence[SupportPair], settings: Hyperparameters
) -> tuple[list[SupportPair], list[SupportPair]]:
    """Training and validation pairs: whole template groups are set aside for early stopping.

    With too few groups for both, all pairs train and nothing is set aside.
    """
    clusters = clusters_of(pairs, VALIDATION_SIMILARITY)
    salt = f"validation {settings.seed}"
    aside = [is_set_aside(cluster, settings.validation_fraction, salt) for cluster in clusters]
    if all(aside):
        return list(pairs), []
    train = [pair for pair, held in zip(pairs, aside, strict=True) if not held]
    return train, [pair for pair, held in zip(pairs, aside, strict=True) if held]
