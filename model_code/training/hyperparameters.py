"""The hyperparameters of a fine-tune and their limits. Pure; takes strings too, as SageMaker sends them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Hyperparameters(BaseModel):
    """Defaults suit a few hundred pairs and a model of 100 to 400 million parameters on two CPU cores.

    `parameter_budget` is the most trainable parameters allowed: the LoRA rank is the largest that fits.
    `adapted_layers` is the share of transformer blocks that get adapters, counted from the top; blocks
    below need no backward pass. `precision` is that of the frozen base during training: `auto` takes
    bfloat16 where the processor multiplies it natively. Patience counts evaluations (one per epoch)
    without a lower validation loss.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: Literal["lora"] = "lora"
    parameter_budget: int = Field(default=2_500_000, ge=1)
    max_rank: int = Field(default=32, ge=1, le=512)
    alpha_over_rank: float = Field(default=2.0, gt=0)
    adapted_layers: float = Field(default=0.5, gt=0, le=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    warmup_fraction: float = Field(default=0.1, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_gradient_norm: float = Field(default=1.0, gt=0)
    epochs: int = Field(default=4, ge=1, le=1000)
    batch_size: int = Field(default=8, ge=1, le=1024)
    max_tokens: int = Field(default=512, ge=16)
    validation_fraction: float = Field(default=0.15, ge=0, lt=0.5)
    patience: int = Field(default=2, ge=1)
    checkpoint_steps: int = Field(default=20, ge=1)
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    seed: int = Field(default=0, ge=0)
    model_name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    base_digest: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
