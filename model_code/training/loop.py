"""The training loop: cosine schedule, clipping, early stopping, checkpoints; the best adapter wins.

Knows a peft model and batches. Knows nothing of SageMaker's folders or of artefacts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import PeftModel

from model_code.training import checkpoint
from model_code.training.checkpoint import Progress
from model_code.training.hyperparameters import Hyperparameters
from model_code.training.job import StoppedError, StopSignal, TrainingError, emit, say
from model_code.training.lora import adapter_state, load_adapter_state
from model_code.training.schedule import learning_rate
from model_code.training.tokenization import IGNORED, Example, TokenBatch, batches


def answer_loss(model: PeftModel, batch: TokenBatch) -> tuple[torch.Tensor, int]:
    """Summed cross entropy over the answer tokens of one batch.

    Args:
        model: the base with its adapters.
        batch: token ids, mask and labels, each [pairs, tokens]; the last `keep` positions count.

    Returns:
        The sum in nats, a float32 scalar, and how many answer tokens it is over.
    """
    device = model.device
    output = model(
        input_ids=batch.input_ids.to(device),
        attention_mask=batch.attention_mask.to(device),
        logits_to_keep=batch.keep,
        use_cache=False,
    )
    targets = batch.labels[:, -batch.keep :][:, 1:].to(device)  # [pairs, keep - 1]
    logits = output.logits[:, :-1]  # [pairs, keep - 1, vocabulary]
    answer = targets != IGNORED
    loss = torch.nn.functional.cross_entropy(logits[answer].float(), targets[answer], reduction="sum")
    return loss, int(answer.sum())


@torch.inference_mode()
def mean_loss(model: PeftModel, examples: Sequence[TokenBatch]) -> float:
    """Cross entropy over all batches, without gradients.

    Args:
        model: the base with its adapters; left in training mode.
        examples: batches of [pairs, tokens] each.

    Returns:
        Nats per answer token, each token counting alike.
    """
    model.eval()
    total, tokens = 0.0, 0
    for batch in examples:
        loss, count = answer_loss(model, batch)
        total, tokens = total + float(loss), tokens + count
    model.train()
    return total / tokens


class Trainer:
    """One run, from its checkpoint (if any) to its end."""

    def __init__(
        self,
        model: PeftModel,
        settings: Hyperparameters,
        train: Sequence[Example],
        validation: Sequence[Example],
        pad_id: int,
        progress: Progress,
        checkpoints: Path,
        stop: StopSignal,
    ) -> None:
        self.model, self.settings, self.progress = model, settings, progress
        self.train_examples, self.pad_id = train, pad_id
        self.validation = batches(validation, settings.batch_size, pad_id, None) if validation else []
        self.checkpoints, self.stop = checkpoints, stop
        self.steps_per_epoch = math.ceil(len(train) / settings.batch_size)
        self.total_steps = self.steps_per_epoch * settings.epochs
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.weights = weights
        self.optimizer = torch.optim.AdamW(weights, weight_decay=settings.weight_decay)
        if progress.adapter is not None and progress.optimizer is not None:
            load_adapter_state(model, progress.adapter)
            self.optimizer.load_state_dict(progress.optimizer)

    def run(self) -> Progress:
        """Train to the last epoch or to early stopping; the progress returned holds the best adapter.

        Raises StoppedError on SIGTERM, after a checkpoint, and TrainingError when a loss is not finite.
        """
        self.model.train()
        self._end_epoch()
        while self.progress.step < self.total_steps and not self._out_of_patience():
            epoch, done = divmod(self.progress.step, self.steps_per_epoch)
            order = f"{self.settings.seed}:{epoch}"
            todo = batches(self.train_examples, self.settings.batch_size, self.pad_id, order)
            for batch in todo[done:]:
                self._step(batch)
                self._heed_stop()
            self._end_epoch()
        if self.progress.best_adapter is None:
            self.progress.best_adapter = adapter_state(self.model)
            self.progress.best_step = self.progress.step
        return self.progress

    def _step(self, batch: TokenBatch) -> None:
        started = time.monotonic()
        step = self.progress.step
        rate = learning_rate(step, self.total_steps, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # Dropout's random numbers depend on the step alone, so a resumed run repeats the unbroken one.
        torch.manual_seed(self.settings.seed * 1_000_003 + step)
        total, count = answer_loss(self.model, batch)
        loss = total / count
        self._require_finite("loss", float(loss.detach()), step)
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.weights, self.settings.max_gradient_norm)
        self._require_finite("gradient norm", float(norm), step)
        self.optimizer.step()
        self.progress.step += 1
        self.progress.tokens += batch.tokens
        self.progress.seconds += time.monotonic() - started
        emit("train:loss", float(loss.detach()), self.progress.step)
        emit("train:learning_rate", rate, self.progress.step)
        if self.progress.step % self.settings.checkpoint_steps == 0:
            self._save()

    def _require_finite(self, what: str, value: float, step: int) -> None:
        if not math.isfinite(value):
            raise TrainingError(
                f"the {what} became {value} at step {step + 1} of {self.total_steps}: training diverged "
                f"or the base weights are damaged. Lower learning_rate (now {self.settings.learning_rate:g}) "
                "or set precision to float32"
            )

    def _end_epoch(self) -> None:
        """Evaluate and save, once per epoch boundary; step 0 measures the untouched base."""
        step = self.progress.step
        if not self.validation or step % self.steps_per_epoch or self.progress.evaluated_step == step:
            return
        loss = mean_loss(self.model, self.validation)
        self._require_finite("validation loss", loss, step)
        self.progress.evaluated_step = step
        if step == 0:
            self.progress.base_loss = loss
            emit("validation:base_loss", loss, step)
            return
        emit("validation:loss", loss, step)
        emit("train:tokens_per_second", self.progress.tokens / self.progress.seconds, step)
        if self.progress.best_loss is None or loss < self.progress.best_loss:
            self.progress.best_loss, self.progress.best_step = loss, step
            self.progress.best_adapter = adapter_state(self.model)
            self.progress.worse_evaluations = 0
        else:
            self.progress.worse_evaluations += 1
        self._save()

    def _out_of_patience(self) -> bool:
        if self.progress.worse_evaluations < self.settings.patience:
            return False
        say(
            f"stopping early at step {self.progress.step}: validation loss was lowest at "
            f"step {self.progress.best_step}"
        )
        return True

    def _heed_stop(self) -> None:
        if self.stop.received:
            self._save()
            raise StoppedError(f"stopped by SIGTERM at step {self.progress.step}; a checkpoint is kept")

    def _save(self) -> None:
        self.progress.adapter = adapter_state(self.model)
        self.progress.optimizer = self.optimizer.state_dict()
        checkpoint.save(self.checkpoints, self.progress)
