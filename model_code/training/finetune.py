"""Entry point of the fine-tuning job (SageMaker script mode): base artefact and pairs in, artefact out.

    python -m model_code.training.finetune --epochs 4 --learning_rate 0.001

Channels: `train` (train.jsonl, data_card.json) and `model` (the base artefact). The held-out items are
no channel: training never sees them. Exit codes: 0 done, 1 failed (reason in the failure file), 143 stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # script mode runs this file by path: make the archive's packages importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    __package__ = "model_code.training"

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a job never fetches weights or code by itself
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Idle threads sleep instead of spinning: on a laptop the endpoint serves on the same cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from contracts.artefact import ArtefactError, Manifest, verify
from contracts.training import TRAINING_CARD_FILE, FileDigest, SupportPair
from model_code.training import checkpoint
from model_code.training.card import Inputs, Setup, training_card
from model_code.training.checkpoint import Progress
from model_code.training.dataset import read_train, split_validation
from model_code.training.hyperparameters import Hyperparameters
from model_code.training.job import (
    EXIT_STOPPED,
    Job,
    StoppedError,
    StopSignal,
    TrainingError,
    read_hyperparameters,
    say,
)
from model_code.training.loop import Trainer
from model_code.training.lora import attach, merge
from model_code.training.pack import pack
from model_code.training.precision import working_dtype
from model_code.training.tokenization import Example, encode_all


def run_digest(settings: Hyperparameters, base: Manifest, data: FileDigest) -> str:
    """Names a run: only a checkpoint of the same data, base and hyperparameters may be resumed."""
    identity = json.dumps([settings.model_dump(), base.digest, data.sha256], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()


def _examples(
    job: Job, pairs: Sequence[SupportPair], settings: Hyperparameters
) -> tuple[list[Example], list[Example], int]:
    tokenizer = AutoTokenizer.from_pretrained(job.base_model, local_files_only=True)
    train_pairs, validation_pairs = split_validation(pairs, settings)
    train, long_train = encode_all(train_pairs, tokenizer, settings.max_tokens)
    validation, long_validation = encode_all(validation_pairs, tokenizer, settings.max_tokens)
    if not train:
        raise TrainingError(f"every training pair is longer than max_tokens ({settings.max_tokens})")
    say(
        f"{len(train)} training and {len(validation)} validation examples; "
        f"{long_train + long_validation} longer than {settings.max_tokens} tokens left out"
    )
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return train, validation, pad_id


def _load(folder: Path, dtype: torch.dtype | str) -> transformers.PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)


def finetune(job: Job, settings: Hyperparameters, stop: StopSignal) -> Manifest:
    """The whole job. Raises TrainingError or ArtefactError with the reason, StoppedError on SIGTERM."""
    base = verify(job.base_model, settings.base_digest)
    pairs, data, data_card = read_train(job.data)
    train, validation, pad_id = _examples(job, pairs, settings)

    run = run_digest(settings, base, data)
    progress = checkpoint.load(job.checkpoints, run) or Progress(run=run)
    if progress.step:
        say(f"resuming from the checkpoint of step {progress.step}")

    torch.manual_seed(settings.seed)
    dtype = working_dtype(settings.precision)
    base_model = _load(job.base_model, dtype)
    total_parameters = base_model.num_parameters()
    model, plan = attach(base_model, settings)
    if torch.cuda.is_available():
        model.to("cuda")
    say(f"LoRA of rank {plan.rank} on {len(plan.targets)} layers: {plan.parameters} parameters, {dtype}")
    setup = Setup(plan, total_parameters, dtype, resumed_from_step=progress.step)
    progress = Trainer(model, settings, train, validation, pad_id, progress, job.checkpoints, stop).run()
    del model, base_model

    merged = merge(_load(job.base_model, "auto"), settings, progress.best_adapter or {})
    inputs = Inputs(base, data, data_card, job.code_version)
    card = training_card(inputs, settings, setup, progress)
    manifest = pack(merged, job.base_model, job.model, settings.model_name or base.name, card)
    job.output_data.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(job.model / TRAINING_CARD_FILE, job.output_data / TRAINING_CARD_FILE)
    return manifest


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job that the environment describes; returns the exit code."""
    transformers.logging.disable_progress_bar()
    job = Job.from_environment()
    try:
        settings = read_hyperparameters(sys.argv[1:] if arguments is None else arguments)
        with StopSignal().listening() as stop:
            manifest = finetune(job, settings, stop)
    except StoppedError as stopped:
        say(str(stopped))
        return EXIT_STOPPED
    except (TrainingError, ArtefactError) as error:
        job.fail(str(error))
        say(f"training failed: {error}")
        return 1
    except Exception as error:  # noqa: BLE001 - whatever it is, DescribeTrainingJob must say it
        job.fail(f"{type(error).__name__}: {error}")
        traceback.print_exc()
        return 1
    told = {"name": manifest.name, "digest": manifest.digest, "folder": str(job.model)}
    print(json.dumps(told), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
