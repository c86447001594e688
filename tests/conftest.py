"""The one laptop cloud of a test session, shared by all tests that need one; a mark tells which do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.support.laptop import Laptop

# What takes a busy machine long is no failure of a property.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the session's laptop cloud: what does not can run beside it, in another session."""
    for item in items:
        if "laptop" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.laptop)


@pytest.fixture(scope="session")
def laptop() -> Iterator[Laptop]:
    """The session's laptop cloud, with the tiny random model; its data is forgotten at the end."""
    from tests.support.laptop import REPOSITORY, Laptop, free_port  # unit tests do without its libraries

    home, port = REPOSITORY / ".evergreen" / "test", free_port()
    environment = os.environ | {"EVERGREEN_HOME": str(home), "EVERGREEN_PORT": str(port)}
    cloud = Laptop(home, port, environment)
    cloud.command("clean")
    cloud.up()
    yield cloud
    cloud.command("clean")
