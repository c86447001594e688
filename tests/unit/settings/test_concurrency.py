"""How many requests a model's machines hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.settings import load
from infra.settings.concurrency import held
from infra.settings.endpoint import RealtimeEndpoint

EXAMPLES = Path(__file__).parents[2] / "fixtures" / "settings"


@pytest.mark.parametrize("example", sorted(path.stem for path in EXAMPLES.glob("*.yaml")))
def test_every_kind_of_endpoint_holds_some(example: str) -> None:
    spec = load(example, EXAMPLES).endpoint
    assert held(spec) > 0
    assert held(spec, challenger=True) >= held(spec)


def test_neuron_bounds_no_queue_so_what_it_decodes_counts() -> None:
    spec = load("neuron", EXAMPLES).endpoint
    assert isinstance(spec, RealtimeEndpoint)
    assert held(spec) == spec.engine.max_running_requests * spec.instances.max
