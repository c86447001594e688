"""From a sentence's token vectors to its one vector, as the model's sentence-transformers files say.

Without such files: the mean over the tokens, at unit length. Sources: Reimers and Gurevych 2019,
Sentence-BERT; the sentence-transformers documentation of Pooling. `read_pooling` needs no torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_code.serving.engines.errors import EngineError
from model_code.serving.model_tasks import MODULES

if TYPE_CHECKING:
    import torch

_PREFIX = "pooling_mode_"
_MODES = {  # older configurations set one flag per mode
    "cls_token": "cls",
    "mean_tokens": "mean",
    "max_tokens": "max",
    "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean_tokens": "weightedmean",
    "lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class Pooling:
    """The modes whose results are joined, whether unit length follows, and the longest text in tokens."""

    modes: tuple[str, ...] = ("mean",)
    normalise: bool = True
    longest: int | None = None


def read_pooling(folder: Path) -> Pooling:
    """The pooling of a model folder. Raises EngineError naming a module or mode that is not served."""
    if not (folder / MODULES).is_file():
        return Pooling()
    modules = [(str(entry["type"]).rpartition(".")[2], entry["path"]) for entry in _json(folder / MODULES)]
    unknown = [kind for kind, _ in modules if kind not in ("Transformer", "Pooling", "Normalize")]
    if unknown:
        raise EngineError(f"{MODULES} asks for the module {unknown[0]}, which is not served")
    paths = dict(modules)
    if paths.get("Transformer"):
        raise EngineError(
            f"{MODULES} keeps the model in '{paths['Transformer']}'; it must be the folder itself"
        )
    modes = _modes(_json(folder / paths["Pooling"] / "config.json")) if "Pooling" in paths else ("mean",)
    settings = folder / "sentence_bert_config.json"
    longest = _json(settings).get("max_seq_length") if settings.is_file() else None
    return Pooling(modes, "Normalize" in paths, longest)


def _modes(config: dict[str, Any]) -> tuple[str, ...]:
    named = config.get("pooling_mode")  # newer configurations
    if isinstance(named, str):
        modes = [named]
    else:
        flags = [name.removeprefix(_PREFIX) for name, on in config.items() if name.startswith(_PREFIX) and on]
        modes = [_MODES.get(flag, flag) for flag in flags]
    unknown = [mode for mode in modes if mode not in _MODES.values()]
    if unknown or not modes:
        raise EngineError(f"the pooling '{unknown[0] if unknown else 'none'}' is not served")
    return tuple(modes)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def pool(pooling: Pooling, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """One vector per text.

    Args:
        pooling: which modes are joined, and whether unit length follows.
        hidden: the last layer's states [texts, tokens, width].
        mask: [texts, tokens], 1 for tokens and 0 for padding, which is on the right.

    Returns:
        [texts, modes · width].
    """
    import torch

    real = mask.unsqueeze(-1).to(hidden.dtype)
    parts = [_pooled(mode, hidden, real) for mode in pooling.modes]
    vectors = torch.cat(parts, dim=1)
    return torch.nn.functional.normalize(vectors, dim=1) if pooling.normalise else vectors


def _pooled(mode: str, hidden: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """States [texts, tokens, width] and their mask [texts, tokens, 1] to [texts, width]."""
    import torch

    count = real.sum(dim=1).clamp(min=1e-9)
    if mode == "cls":
        return hidden[:, 0]
    if mode == "max":
        return hidden.masked_fill(real == 0, float("-inf")).max(dim=1).values
    if mode == "lasttoken":
        last = count.squeeze(1).long() - 1
        return hidden[torch.arange(len(hidden), device=hidden.device), last]
    if mode == "weightedmean":  # a token's weight is its position, counted from one
        weights = real * torch.arange(1, real.shape[1] + 1, device=real.device).view(1, -1, 1)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)
    total = (hidden * real).sum(dim=1)
    return total / (count.sqrt() if mode == "mean_sqrt_len_tokens" else count)
