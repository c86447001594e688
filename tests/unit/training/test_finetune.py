"""The training job as a process, with a random two-layer model: what it learns, leaves behind and survives.

Torch lives in the serving environment only, so each run is a process of that environment.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from contracts.artefact import ArtefactError, file_sha256, verify
from contracts.training import TrainingCard
from model_code.training.job import EXIT_STOPPED
from model_code.training.prepare import PrepareSettings, prepare
from tests.support.serving_python import PYTHON, python
from tests.support.training_data import FIXTURES, REPOSITORY

SMALL = [
    *("--parameter_budget", "20000", "--adapted_layers", "1", "--precision", "float32"),
    *("--epochs", "2", "--batch_size", "16", "--learning_rate", "0.02"),
]

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason=f"needs the serving environment at {PYTHON}")


class JobFolder:
    """One training job's folders, in the shape of the service's."""

    def __init__(self, root: Path, data: Path, base: Path) -> None:
        self.root = root
        self.environment = {
            "SM_CHANNEL_TRAIN": str(data),
            "SM_CHANNEL_MODEL": str(base),
            "SM_MODEL_DIR": str(root / "model"),
            "SM_OUTPUT_DIR": str(root / "output"),
            "SM_CHECKPOINT_DIR": str(root / "checkpoints"),
            "EVERGREEN_CODE_VERSION": "abc123",
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return python("-m", "model_code.training.finetune", *arguments, **self.environment)

    def run_interrupted(self, by: str, step: int, *arguments: str) -> subprocess.CompletedProcess[str]:
        module = "tests.support.interrupted_training"
        return python("-m", module, by, str(step), *arguments, **self.environment)

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def failure(self) -> str:
        return (self.root / "output" / "failure").read_text()


def metrics(run: subprocess.CompletedProcess[str], name: str) -> dict[int, float]:
    """Values of a metric by step, as the job printed them."""
    lines = [json.loads(line) for line in run.stdout.splitlines() if '"metric"' in line]
    return {line["step"]: line["value"] for line in lines if line["metric"] == name}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    prepare([FIXTURES / "support_pairs.jsonl"], folder, PrepareSettings())
    return folder


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases")
    for name, options in (("intact", []), ("damaged", ["--damaged"])):
        made = python("-m", "tests.support.tiny_base", str(folder / name), *options)
        assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture(scope="module")
def unbroken(
    data: Path, bases: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[JobFolder, subprocess.CompletedProcess[str]]:
    job = JobFolder(tmp_path_factory.mktemp("unbroken"), data, bases / "intact")
    return job, job.run(*SMALL)


@pytest.fixture(scope="module")
def probed(bases: Path) -> dict[str, Any]:
    run = python("-m", "tests.support.training_probe", str(bases / "intact"))
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_a_run_ends_with_a_verified_artefact_and_says_its_digest(unbroken) -> None:
    job, run = unbroken
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout.splitlines()[-1])
    assert verify(job.model, told["digest"]).name == told["name"] == "tiny-chat"
    assert not (job.root / "output" / "failure").exists()


def test_it_learns(unbroken) -> None:
    _, run = unbroken
    base = metrics(run, "validation:base_loss")[0]
    assert min(metrics(run, "validation:loss").values()) < 0.9 * base
    losses = metrics(run, "train:loss")
    assert list(losses) == list(range(1, max(losses) + 1))


def test_only_the_weights_change_and_no_engine_file_travels(unbroken, bases: Path) -> None:
    job, _ = unbroken
    base = bases / "intact"
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert file_sha256(job.model / name) == file_sha256(base / name)
    assert file_sha256(job.model / "model.safetensors") != file_sha256(base / "model.safetensors")
    assert not list(job.model.rglob("old_weights*"))


def test_the_training_card_tells_where_the_model_comes_from(unbroken, data: Path, bases: Path) -> None:
    job, run = unbroken
    card = TrainingCard.model_validate_json((job.model / "training_card.json").read_bytes())
    copied = TrainingCard.model_validate_json(
        (job.root / "output" / "data" / "training_card.json").read_bytes()
    )
    assert card == copied
    assert card.base_digest == verify(bases / "intact", None).digest
    assert card.data[0].sha256 == file_sha256(data / "train.jsonl")
    assert card.data_card is not None
    assert card.data_card.files[0].sha256 == card.data[0].sha256
    assert card.code_version == "abc123"
    assert card.trainable_parameters <= 20_000 < card.total_parameters
    assert card.hyperparameters["rank"] >= 1
    assert card.metrics["validation_loss"] == pytest.approx(
        min(metrics(run, "validation:loss").values()), abs=1e-5
    )
    assert card.training_seconds > 0
    assert card.peak_memory_mib > 50
    assert {"torch", "transformers", "peft", "python"} <= set(card.versions)


@pytest.mark.parametrize(
    ("by", "exit_code", "resumes_at"), [("SIGTERM", EXIT_STOPPED, 7), ("SIGKILL", -signal.SIGKILL, 4)]
)
def test_a_killed_run_goes_on_and_ends_with_the_very_same_weights(
    unbroken, data: Path, bases: Path, tmp_path: Path, by: str, exit_code: int, resumes_at: int
) -> None:
    # Given a run that a spot interruption ends after step 7, with a checkpoint every four steps
    job = JobFolder(tmp_path, data, bases / "intact")
    settings = [*SMALL, "--checkpoint_steps", "4"]
    killed = job.run_interrupted(by, 7, *settings)
    assert killed.returncode == exit_code, killed.stderr
    assert not (job.model / "model.safetensors").exists()
    assert not (job.root / "output" / "failure").exists()
    # When the service starts it again
    resumed = job.run(*settings)
    # Then it goes on from its checkpoint and nobody can tell from the weights
    assert resumed.returncode == 0, resumed.stderr
    assert min(metrics(resumed, "train:loss")) == resumes_at + 1
    unbroken_job, _ = unbroken
    weights = "model.safetensors"
    assert file_sha256(job.model / weights) == file_sha256(unbroken_job.model / weights)
    card = TrainingCard.model_validate_json((job.model / "training_card.json").read_bytes())
    assert card.resumed_from_step == resumes_at


def test_a_checkpoint_of_another_run_is_not_resumed(
    unbroken, data: Path, bases: Path, tmp_path: Path
) -> None:
    shutil.copytree(unbroken[0].root / "checkpoints", tmp_path / "checkpoints")
    run = JobFolder(tmp_path, data, bases / "intact").run(*SMALL, "--seed", "5", "--epochs", "1")
    assert run.returncode == 0, run.stderr
    assert min(metrics(run, "train:loss")) == 1


def test_early_stopping_keeps_the_best_weights(data: Path, bases: Path, tmp_path: Path) -> None:
    # Given a rate so high that the validation loss soon rises
    run = JobFolder(tmp_path, data, bases / "intact").run(
        *SMALL, "--epochs", "40", "--learning_rate", "0.5", "--patience", "1"
    )
    assert run.returncode == 0, run.stderr
    losses = metrics(run, "validation:loss")
    assert len(losses) < 40
    assert "stopping early" in run.stderr
    card = TrainingCard.model_validate_json((tmp_path / "model" / "training_card.json").read_bytes())
    assert card.metrics["best_step"] == min(losses, key=lambda step: losses[step])


def test_a_loss_that_is_not_a_number_fails_with_a_reason(data: Path, bases: Path, tmp_path: Path) -> None:
    job = JobFolder(tmp_path, data, bases / "damaged")
    run = job.run(*SMALL)
    assert run.returncode == 1
    assert "became nan" in job.failure
    assert "learning_rate" in job.failure
    assert not (job.model / "manifest.json").exists()


def test_a_base_that_was_changed_is_not_trained(data: Path, bases: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(bases / "intact", base)
    weights = base / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ArtefactError):
        verify(base, None)
    job = JobFolder(tmp_path, data, base)
    assert job.run(*SMALL).returncode == 1
    assert "model.safetensors differs from its manifest" in job.failure


def test_run_by_path_as_script_mode_does_it_leaves_the_reason_of_a_refusal(tmp_path: Path) -> None:
    job = JobFolder(tmp_path, tmp_path, tmp_path)
    script = str(REPOSITORY / "model_code" / "training" / "finetune.py")
    run = python(script, "--epocs", "1", **job.environment)
    assert run.returncode == 1
    assert "hyperparameter epocs" in job.failure
    assert "Traceback" not in run.stderr


def test_only_the_answer_and_its_end_carry_loss(probed: dict[str, Any]) -> None:
    assert probed["prompt"] == (
        "<|im_start|>user\nWhere is my walnut desk now?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert probed["learned"][1] == "Answer Where is my walnut desk now?<|im_end|>"
    assert all(text.startswith("Answer ") for text in probed["learned"])


def test_padding_changes_no_loss(probed: dict[str, Any]) -> None:
    assert probed["batched_loss"] == pytest.approx(probed["single_loss"], rel=1e-4)
    assert probed["real_tokens"] == probed["example_tokens"]


def test_an_epochs_order_depends_on_seed_and_epoch_alone(probed: dict[str, Any]) -> None:
    assert probed["same_seed_same_order"]
    assert probed["other_epoch_other_order"]
    assert probed["rows_in_an_epoch"] == 60
    assert probed["too_long"] == 2


def test_adapters_keep_to_the_budget_and_merge_without_loss(probed: dict[str, Any]) -> None:
    assert probed["trainable"] == probed["planned"] <= 20_000
    assert probed["merged_loss"] == pytest.approx(probed["adapted_loss"], rel=1e-4)
    assert probed["merged_dtype_of_half"] == "torch.bfloat16"
    assert probed["dtypes"][:2] == ["torch.float32", "torch.bfloat16"]
    assert probed["dtypes"][2] in probed["dtypes"][:2]


def test_a_chat_template_without_an_end_is_refused(probed: dict[str, Any]) -> None:
    assert "does not end an answer" in probed["template_refusal"]
