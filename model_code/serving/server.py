"""Serves the model that the environment names until SIGTERM: signals, start, exit status."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from pydantic import ValidationError

from model_code.serving import logs
from model_code.serving.engines.errors import EngineError
from model_code.serving.generation.service import Service
from model_code.serving.http.app import create_app
from model_code.serving.http.connection_timeouts import Connection
from model_code.serving.logs import event
from model_code.serving.model_tasks import UnsupportedArchitectureError, task_of
from model_code.serving.settings import ServerSettings, read_settings, variable_of

if TYPE_CHECKING:
    from model_code.serving.encoders.embedding_service import EmbeddingService

_CLOSE_SECONDS = 2
_WATCH_SECONDS = 1.0
logger = logging.getLogger("model_code.serving")


class Server(uvicorn.Server):
    """uvicorn, which on a signal goes on listening while the service drains, so that `/ping` can say so."""

    def __init__(self, config: uvicorn.Config, service: Service | EmbeddingService) -> None:
        super().__init__(config)
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._drain: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by the signal handler; a second signal changes nothing."""
        self._loop.call_soon_threadsafe(self._begin_drain)

    def _begin_drain(self) -> None:
        if self._drain is None:
            self._drain = asyncio.create_task(self._drain_and_exit())

    async def _drain_and_exit(self) -> None:
        await self._service.drain(self._service.settings.drain)
        self.should_exit = True


async def serve(settings: ServerSettings) -> int:
    """Serve until a signal and return 0; a model that cannot be served ends the process with status 1."""
    try:
        service = _service(settings)
    except UnsupportedArchitectureError as error:
        event(logger, f"cannot serve: {error}", level=logging.CRITICAL, error=type(error).__name__)
        return 1
    config = uvicorn.Config(
        create_app(service),
        host=settings.host,
        port=settings.port,
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here asks where a request came from
        backlog=2048,
        timeout_graceful_shutdown=_CLOSE_SECONDS,
    )
    server = Server(config, service)
    serving = asyncio.create_task(server.serve())
    starting = asyncio.create_task(service.start())
    await asyncio.wait({serving, starting}, return_when=asyncio.FIRST_COMPLETED)
    failure = starting.exception() if starting.done() else None
    if failure is not None:
        event(logger, f"cannot serve: {failure}", level=logging.CRITICAL, error=type(failure).__name__)
    else:
        gc.freeze()  # what is loaded stays: the collector need not walk it, nor push it through the caches
        failure = await _engine_death(service, serving)
    if failure is not None:
        server.should_exit = True
    await serving
    if failure is not None:
        # Engine imports may still be under way in a thread; nobody shall wait for them to report this.
        logging.shutdown()
        os._exit(1)
    starting.cancel()
    await service.close()
    return 0


def _service(settings: ServerSettings) -> Service | EmbeddingService:
    """The service for the model's task. Raises UnsupportedArchitectureError."""
    try:
        task = task_of(settings.model_folder)
    except (OSError, ValueError):  # the start's verification says what is wrong with the artefact
        task = "generation"
    if task == "generation":
        return Service(settings)
    # numpy comes with it, which text does without
    from model_code.serving.encoders.embedding_service import EmbeddingService

    return EmbeddingService(settings, task)


async def _engine_death(
    service: Service | EmbeddingService, serving: asyncio.Task[None]
) -> EngineError | None:
    """Wait until the server ends (None) or its engine has died, which nothing but a new process mends."""
    while not serving.done():
        if reason := service.engine_fault():
            event(logger, f"the engine died: {reason}", level=logging.CRITICAL)
            return EngineError(reason)
        await asyncio.wait({serving}, timeout=_WATCH_SECONDS)
    return None


def main() -> int:
    """Exit status 0 after a signal, 1 when the model could not be served."""
    logs.configure()
    try:
        settings = read_settings()
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            name = variable_of(str(problem["loc"][0]))
            event(logger, f"{name}: {problem['msg']}", level=logging.CRITICAL)
        return 1
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads))
    return uvicorn_run(settings)


def uvicorn_run(settings: ServerSettings) -> int:
    """Run the server on the fastest event loop there is."""
    import uvloop

    return uvloop.run(serve(settings))
