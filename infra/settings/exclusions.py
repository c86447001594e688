"""The register of what SageMaker does not allow: each exclusion has an id, a reason and a way out.

Validators raise through it, docs/settings.md is written from it, and a test asks of each entry a settings
file that is refused and its accepted neighbour. Exclusions are declared beside their validators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infra.settings.base import RuleError


@dataclass(frozen=True)
class Exclusion:
    """One combination that is refused. `bound` names the key whose own bounds refuse it, if that suffices."""

    id: str
    refuses: str
    why: str
    change: str
    bound: str = ""

    def refusal(self, *path: str, what: str, example: Any, change: str = "", why: str = "") -> RuleError:
        """The error for one settings file; `what` names its values, `change` and `why` may say more."""
        return RuleError(
            *path, what=what, why=why or self.why, change=change or self.change, example=example, rule=self.id
        )


_REGISTER: dict[str, Exclusion] = {}


def exclusion(id: str, *, refuses: str, why: str, change: str, bound: str = "") -> Exclusion:
    """Register an exclusion. Raises ValueError where the id is taken."""
    if id in _REGISTER:
        raise ValueError(f"the exclusion {id} is registered twice")
    _REGISTER[id] = Exclusion(id, refuses, why, change, bound)
    return _REGISTER[id]


def register() -> dict[str, Exclusion]:
    """All exclusions by id, in the order in which the modules declare them."""
    return dict(_REGISTER)
