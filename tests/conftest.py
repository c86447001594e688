"""The one laptop cloud of a test session, shared by all tests that need one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cloud.conftest import Laptop


@pytest.fixture(scope="session")
def laptop() -> Iterator[Laptop]:
    """The session's laptop cloud, with the tiny random model; its data is forgotten at the end."""
    from tests.cloud.conftest import REPOSITORY, Laptop, free_port  # unit tests do without its libraries

    home, port = REPOSITORY / ".evergreen" / "test", free_port()
    environment = os.environ | {"EVERGREEN_HOME": str(home), "EVERGREEN_PORT": str(port)}
    cloud = Laptop(home, port, environment)
    cloud.command("clean")
    cloud.up()
    yield cloud
    cloud.command("clean")
