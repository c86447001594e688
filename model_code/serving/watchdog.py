"""Notices an engine that has stopped computing, whether requests run or not.

Shared by the server and the hook; knows nothing of engines. For one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from model_code.serving.logs import event

logger = logging.getLogger(__name__)

_LOOKS = 8  # how often within the limit it is looked


class Watchdog:
    """`limit`: seconds that an engine may be silent for while something is asked of it.

    An engine that was silent for longer stays out of service until it has given something: that the requests
    which waited for it have run out of time, or that nobody asks any more, says nothing for it. One that
    nothing is asked of is asked for a little itself (`watch`).
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._since = time.monotonic()  # when it last gave something, or was first asked after a rest
        self._probing = False
        self._stalled = False

    def alive(self) -> None:
        """Note a sign of life: the engine gave something."""
        self._since = time.monotonic()
        self._stalled = False

    def begin(self) -> None:
        """Note that something is asked of an engine that had nothing to do: its silence so far was none."""
        if not self._stalled:
            self._since = time.monotonic()

    def reason(self, running: int) -> str | None:
        """Why the engine counts as hung; None while it does not. `running`: requests that wait for it."""
        silence = time.monotonic() - self._since
        if (running or self._probing) and silence >= self._limit:
            self._stalled = True
        if not self._stalled:
            return None
        waiting = f" while {running} requests run" if running else ""
        return f"nothing came from the engine for {silence:.0f} s{waiting}"

    async def watch(self, running: Callable[[], int], probe: Callable[[], Awaitable[bool]]) -> None:
        """After half the limit without a sign of life, ask for one by `probe`, which says whether one came.

        A probe is given up after the limit and the next follows: what an engine has lost it never answers.
        """
        while True:
            await asyncio.sleep(self._limit / _LOOKS)
            self.reason(running())
            if time.monotonic() - self._since < self._limit / 2:
                continue
            if not running():
                self.begin()
            await self._ask(probe)

    async def _ask(self, probe: Callable[[], Awaitable[bool]]) -> None:
        began, self._probing = time.monotonic(), True
        try:
            async with asyncio.timeout(self._limit):
                if await probe():
                    self.alive()
        except TimeoutError:
            self._stalled |= self._since <= began
        except Exception as error:  # noqa: BLE001 - the watch goes on, whatever befell one look
            event(logger, f"the engine could not be probed: {error}", level=logging.ERROR)
        finally:
            self._probing = False
