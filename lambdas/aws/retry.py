"""The one retry loop of the AWS clients on the request path."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

ATTEMPTS = 3
PAUSE_SECONDS = 0.05

A = TypeVar("A")


def with_retries(
    attempt: Callable[[], A],
    is_transient: Callable[[Exception], bool],
    *,
    attempts: int = ATTEMPTS,
) -> A:
    """What `attempt` returns; it is repeated with growing pauses while what it raises is transient.

    Raises what the last attempt raises, and at once what is not transient.
    """
    for number in range(1, attempts + 1):
        try:
            return attempt()
        except Exception as error:
            if number == attempts or not is_transient(error):
                raise
        time.sleep(PAUSE_SECONDS * 2 ** (number - 1))
    raise AssertionError("the last attempt returns or raises")
