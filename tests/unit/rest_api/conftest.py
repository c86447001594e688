"""The fixture of this package's tests: an API under construction."""

from __future__ import annotations

import pytest

from tests.support.rest_api import RestApiHarness


@pytest.fixture
def rest_api() -> RestApiHarness:
    """A fresh API without routes."""
    return RestApiHarness()
