"""The deployed API against the document that it publishes: a few requests made from it, always the same ones.

`make schemathesis` sends more, for minutes, against the laptop cloud that runs.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from lambdas.api.openapi import document
from tests.support.laptop import Laptop
from tests.support.published_api import SCHEMA, check

EXAMPLES = 5


@SCHEMA.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_operation_answers_as_published(laptop: Laptop, case: Any) -> None:
    check(case, laptop.api_url, laptop.outputs["api_key"], laptop.model)


def test_every_published_operation_is_tried() -> None:
    tried = {(operation.ok().method, operation.ok().path) for operation in SCHEMA.get_all_operations()}
    published = {(verb, path) for path, verbs in document()["paths"].items() for verb in verbs}
    assert tried == published


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Schemathesis reads settings of its own from the working folder if there are any."""
    monkeypatch.delenv("SCHEMATHESIS_HOOKS", raising=False)
