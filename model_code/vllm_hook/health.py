"""Is the wrapped server well: verified weights, warm-up generation, stall watchdog, the drain on SIGTERM."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from contracts import container
from contracts.artefact import MANIFEST_NAME, ArtefactError, verify
from model_code.serving.admission import Admission
from model_code.serving.logs import event
from model_code.serving.watchdog import Watchdog
from model_code.vllm_hook.settings import HookSettings
from model_code.vllm_hook.upstream import CHAT, COMPLETIONS, EMBEDDINGS, UpstreamApp

_WARM_UP_TOKENS = 4
_RETRY_SECONDS = 1.0
_SIGNAL_SECONDS = 0.25  # between two looks at whose handler SIGTERM has
_ERROR_EVENTS_SECONDS = 1.0  # what cut-off answers have to send their last event
_UNLIMITED = 1 << 62  # tokens: vLLM's own scheduler keeps what runs inside its cache

logger = logging.getLogger(__name__)


class Health:
    """One server's readiness, for its event loop. `admission` holds who runs and who waits."""

    def __init__(self, settings: HookSettings, upstream: UpstreamApp) -> None:
        self._settings = settings
        self._upstream = upstream
        self.admission = Admission(
            max_running=settings.max_running, max_queued=settings.max_queued, max_tokens=_UNLIMITED
        )
        self.cut_off = asyncio.Event()
        """Set when draining has run out of time: whatever still runs must end now."""
        self._not_ready = "the model is loading"
        self._watchdog = Watchdog(settings.stall)
        self.progress = self._watchdog.alive
        """Note a sign of life: the engine gave something."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False

    def begin(self) -> None:
        """Start warm-up and watchdog, take SIGTERM. Called once, when the wrapped application has started."""
        self._start(self._become_ready())
        self._start(self._keep_sigterm())
        if not self._take_sigterm():
            event(logger, "SIGTERM is the server's own here: not drained", level=logging.WARNING)

    def _take_sigterm(self) -> bool:
        """Have SIGTERM begin the drain in place of the server's own handler, which would stop generating.

        The server gets SIGINT after the drain. Asked again and again, because some set their handler late:
        vLLM 0.27 does once its HTTP server has started, so after this application's startup. False where no
        handler can be set.
        """
        try:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.begin_drain)
        except (RuntimeError, ValueError, NotImplementedError):
            return False
        return True

    async def end(self) -> None:
        """Stop what `begin` started."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def unready_reason(self) -> str | None:
        """Why no request can be served now, or None when ready."""
        return self._not_ready or self._watchdog.reason(self.admission.running)

    async def engine_fault(self) -> str | None:
        """What the wrapped server's own check says against it; None while it is well."""
        reply = await self._upstream.ask("GET", "/health")
        return None if reply.status == 200 else f"vLLM's own health check answers {reply.status}"

    def admitted(self) -> None:
        """A request starts; if the engine was idle until now its silence meant nothing."""
        if self.admission.running == 1:
            self._watchdog.begin()

    async def _become_ready(self) -> None:
        began = time.perf_counter()
        try:
            if self._settings.model_digest or (self._settings.model_folder / MANIFEST_NAME).is_file():
                await asyncio.to_thread(verify, self._settings.model_folder, self._settings.model_digest)
        except ArtefactError as error:
            self._not_ready = f"the artefact is at fault: {error}"
            event(logger, f"cannot serve: {error}", level=logging.CRITICAL, error="ArtefactError")
            os.kill(os.getpid(), signal.SIGINT)
            return
        verified = time.perf_counter()
        while (status := await self._generate_once(_WARM_UP_TOKENS)) != 200:
            self._not_ready = f"the warm-up generation answers {status}"
            event(logger, self._not_ready, level=logging.ERROR)
            await asyncio.sleep(_RETRY_SECONDS)
        self._take_sigterm()
        if not self._draining:
            self._not_ready = ""
        self.progress()
        self._start(self._watchdog.watch(lambda: self.admission.running, self._probe))
        event(
            logger,
            "ready",
            engine="vllm",
            context_tokens=await self._context(),
            verify_seconds=round(verified - began, 3),
            warm_up_seconds=round(time.perf_counter() - verified, 3),
        )

    async def _probe(self) -> bool:
        """Whether the server gives one token; a whole answer is silent as long as it is written."""
        return await self._generate_once(1) == 200

    async def _generate_once(self, tokens: int) -> int:
        """The best status of the operations that a model may have; 404 means that it has not."""
        statuses = [await self._generate(route, tokens) for route in (CHAT, COMPLETIONS)]
        if 200 not in statuses:
            content = {"model": self._settings.model_name, "input": "Hello"}
            texts = (EMBEDDINGS, container.VLLM_CLASSIFY)  # a cross-encoder classifies too
            statuses += [(await self._upstream.ask("POST", path, content)).status for path in texts]
        return min(statuses)

    async def _context(self) -> int | None:
        """Most tokens of prompt and answer, as the server lists them; None where it does not."""
        reply = await self._upstream.ask("GET", "/v1/models")
        if reply.status != 200:
            return None
        models = json.loads(bytes(reply.body)).get("data") or [{}]
        longest = models[0].get("max_model_len")
        return longest if isinstance(longest, int) else None

    async def _generate(self, route: str, tokens: int) -> int:
        content: dict[str, Any] = {"model": self._settings.model_name, "max_tokens": tokens}
        if route == CHAT:
            content["messages"] = [{"role": "user", "content": "Hello"}]
        else:
            content["prompt"] = "Hello"
        return (await self._upstream.ask("POST", route, content)).status

    async def _keep_sigterm(self) -> None:
        while True:
            await asyncio.sleep(_SIGNAL_SECONDS)
            self._take_sigterm()

    def begin_drain(self) -> None:
        """Refuse new work, let running requests finish, then end the server. Again: changes nothing."""
        if not self._draining:
            self._draining = True
            self._not_ready = "the server is shutting down"
            self._start(self._drain())

    async def _drain(self) -> None:
        await self._idle(self._settings.drain)
        self.cut_off.set()
        event(logger, "drained", left=self.admission.running)
        await self._idle(_ERROR_EVENTS_SECONDS)
        # vLLM and uvicorn take SIGINT for a request to stop; nothing runs any more, so that is quick.
        os.kill(os.getpid(), signal.SIGINT)

    async def _idle(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.admission.idle.wait()
