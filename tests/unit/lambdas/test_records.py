"""The record of a request: what guards found, how long they took, what the request cost."""

from __future__ import annotations

import json
from collections.abc import Callable

from contracts.guards import GuardSettings
from tests.support.front_door import SETTINGS, Door, chat


def test_the_record_names_what_guards_found_and_what_the_request_cost(make_door: Callable[..., Door]) -> None:
    settings = SETTINGS.model_copy(
        update={
            "guards": GuardSettings(mask_pii=True, block_injection=True),
            "input_token_price": 1.0,
            "output_token_price": 2.0,
        }
    )
    door = make_door(settings)
    door.ask(chat("I am ann@x.org"))
    record = door.record()
    assert record is not None
    assert record["findings"] == ["pii:email:mask"]
    assert set(record["guard_ms"]) == {"pii", "injection"}
    assert all(milliseconds >= 0 for milliseconds in record["guard_ms"].values())
    assert record["cost_nano_usd"] == (5 * 1 + 3 * 2) * 1_000
    assert record["cached"] is False
    assert "ann@x.org" not in json.dumps(record)
