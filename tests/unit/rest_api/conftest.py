"""The fixture of this room's tests: an API under construction."""

from __future__ import annotations

import pytest

from tests.support.rest_api import World


@pytest.fixture
def world() -> World:
    """A fresh API without routes."""
    return World()
