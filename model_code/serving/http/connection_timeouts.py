"""How long a connection may take over its request's head: uvicorn itself waits without end.

Half a request holds a file descriptor, and nobody can ask for `/ping` once all of them are held.
"""

from __future__ import annotations

import asyncio
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 30.0


class Connection(HttpToolsProtocol):
    """A connection that is closed when a request's head, its first one included, does not come in time."""

    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        super().connection_made(cast("asyncio.Transport", transport))
        self._expect_head()

    def on_message_begin(self) -> None:
        """See HttpToolsProtocol."""
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        """See HttpToolsProtocol."""
        self._forget_head()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._forget_head()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._forget_head()
        self._head = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _forget_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None
