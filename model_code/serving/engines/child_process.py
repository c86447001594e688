"""A process of the engine's own that answers one question at a time, and may end without ending the server.

It starts with the first question, is ended when an answer takes too long, and starts again with the next.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

START_SECONDS = 120.0


class ChildProcess:
    """The server's side. Ask from one thread at a time; `close` may come from any."""

    def __init__(self, name: str, main: Callable[..., None], *arguments: Any) -> None:
        """`main` takes the connection and the arguments, and calls `answer_questions`."""
        self._name, self._main, self._arguments = name, main, arguments
        self._guard = threading.Lock()
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None

    def ask(self, question: Any, seconds: float) -> Any:
        """The answer. Raises TimeoutError after so many seconds, and EOFError or OSError where it ended."""
        try:
            connection = self._started()
            connection.send(question)
            if not connection.poll(seconds):
                raise TimeoutError
            return connection.recv()
        except (EOFError, OSError):  # a TimeoutError is an OSError
            self.close()
            raise

    def close(self) -> None:
        """End the process; the next question starts another one."""
        with self._guard:
            if self._process is not None:
                self._process.kill()
                self._process.join(START_SECONDS)
            if self._connection is not None:
                self._connection.close()
            self._process = self._connection = None

    def _started(self) -> Connection:
        with self._guard:
            if self._connection is None:
                context = multiprocessing.get_context("spawn")
                self._connection, theirs = context.Pipe()
                self._process = context.Process(
                    target=self._main, args=(theirs, *self._arguments), name=self._name, daemon=True
                )
                self._process.start()
                theirs.close()  # or its end would not show here
                if not self._connection.poll(START_SECONDS):
                    raise EOFError
                self._connection.recv()
            return self._connection


def answer_questions(connection: Connection, prepare: Callable[[], Callable[[Any], Any]]) -> None:
    """The process's side: `prepare` makes what answers; then a question in, its answer out, to the end."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the server decides when this process ends
    answer = prepare()
    connection.send(None)
    try:
        while True:
            connection.send(answer(connection.recv()))
    except (EOFError, OSError):
        return
