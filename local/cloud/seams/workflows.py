"""Step Functions: where the emulator's state language differs from the specification."""

from __future__ import annotations

from typing import Any

from ministack.services import stepfunctions as _states


def keep_empty_parameters() -> None:
    """`"Parameters": {}` means an empty input; the emulator passes the whole input on instead."""
    apply = _states._apply_parameters

    def apply_parameters(state: dict[str, Any], data: Any, *context: Any) -> Any:
        return {} if state.get("Parameters") == {} else apply(state, data, *context)

    _states._apply_parameters = apply_parameters
