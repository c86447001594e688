"""SageMaker's sticky sessions: ids that bind a caller to this container, where its prompts are cached.

The service routes by the id; a container opens ids, closes them and refuses those it does not know. What
a session gains here is the engine's prefix cache, which holds the conversation so far. Source: AWS'
documentation of InvokeEndpoint, and the PyPI package model-hosting-container-standards.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from contracts import container
from model_code.serving.errors import ServingError, invalid, overloaded

NEW_SESSION = "NEW_SESSION"
CLOSE = "CLOSE"
_FIELD = "requestType"
_LONGEST_BODY = 4096


@dataclass(frozen=True)
class SessionReply:
    """The header that the service acts on, and the answer; without a text, the model answers."""

    text: str | None
    header: str
    value: str


class Sessions:
    """The open sessions of one container. They end `seconds` after they began, used or not: that moment is
    what the service was told. `clock` gives seconds since the epoch."""

    def __init__(
        self, *, enabled: bool, seconds: float, limit: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._enabled = enabled
        self._seconds = seconds
        self._limit = limit
        self._clock = clock
        self._ends: dict[str, float] = {}  # in the order in which they end

    def __len__(self) -> int:
        """How many are open."""
        self._forget_ended()
        return len(self._ends)

    def handle(self, session: str | None, body: bytes) -> SessionReply | None:
        """The reply to a request that opens or closes a session; None for every other request.

        A session id of NEW_SESSION opens one along with whatever the request asks for.
        Raises ServingError: turned off, unknown or ended session, too many, malformed.
        """
        wanted = _request_type(body)
        if wanted is None and session is None:
            return None
        if not self._enabled:
            raise invalid(
                "Sessions are turned off here: set SAGEMAKER_ENABLE_STATEFUL_SESSIONS to true.",
                param=_FIELD if wanted else container.HEADER_SESSION,
                code="sessions_off",
            )
        self._forget_ended()
        if wanted == NEW_SESSION:
            return self._open()
        if session == NEW_SESSION and wanted is None:
            return replace(self._open(), text=None)
        if session is None:
            raise invalid(
                f"CLOSE needs the header {container.HEADER_SESSION}.",
                param=container.HEADER_SESSION,
                code="missing_field",
            )
        if session not in self._ends:
            raise _unknown(session)
        if wanted == CLOSE:
            del self._ends[session]
            return SessionReply(f"Session {session} closed", container.HEADER_CLOSED_SESSION, session)
        return None

    def _open(self) -> SessionReply:
        if len(self._ends) >= self._limit:
            raise overloaded(f"{self._limit} sessions are open already.", code="session_limit", retry_after=5)
        session = str(uuid.uuid4())
        self._ends[session] = self._clock() + self._seconds
        until = datetime.fromtimestamp(self._ends[session], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return SessionReply(
            f"Session {session} created", container.HEADER_NEW_SESSION, f"{session}; Expires={until}"
        )

    def _forget_ended(self) -> None:
        now = self._clock()
        while self._ends and (first := next(iter(self._ends))) and self._ends[first] <= now:
            del self._ends[first]


def _unknown(session: str) -> ServingError:
    shown = session if len(session) <= 64 and session.isprintable() else f"of {len(session)} characters"
    return invalid(
        f"The session {shown} is not open here: it was closed, has ended, or belongs to another container. "
        "Open a new one.",
        param=container.HEADER_SESSION,
        code="session_not_found",
    )


def _request_type(body: bytes) -> str | None:
    """NEW_SESSION or CLOSE for a body that asks for it, else None. Raises ServingError: malformed."""
    if len(body) > _LONGEST_BODY or _FIELD.encode() not in body:
        return None
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or _FIELD not in content:
        return None
    if content.keys() != {_FIELD} or content[_FIELD] not in (NEW_SESSION, CLOSE):
        raise invalid(
            f"A request about a session has the one field {_FIELD}, {NEW_SESSION} or {CLOSE}.",
            param=_FIELD,
            code="invalid_value",
        )
    return str(content[_FIELD])
