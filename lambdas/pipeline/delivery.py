"""The answer on its way to the caller: observed chunk by chunk, then rendered as events or as one body."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence

from pydantic_core import to_json

from contracts.chat import Usage
from lambdas.aws import model_errors
from lambdas.aws.events import DONE
from lambdas.pipeline.invocation import HEARTBEAT
from lambdas.pipeline.older_form import in_older_form, is_older_form
from lambdas.pipeline.operations import Gathered, Rendering
from lambdas.pipeline.request import Chunk, Response, TextGeneration
from lambdas.runtime.errors import ApiError

Watcher = Callable[[Chunk], None]
"""Sees each chunk as the caller gets it."""

COMMENT = b": waiting\n\n"  # clients skip comments; proxies see that the connection lives
_SSE_HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}


def observed(generation: TextGeneration, chunks: Iterable[Chunk], response: Response) -> Iterator[Chunk]:
    """The chunks under the answer's public id and model name; counts and times go into `response`.

    A usage chunk the caller did not ask for is kept from it, not from us.
    """
    options = generation.body.stream_options
    show_usage = not generation.body.stream or (options is not None and options.include_usage)
    for chunk in chunks:
        if chunk is HEARTBEAT:
            yield chunk
            continue
        chunk["id"] = generation.answer_id
        chunk["model"] = generation.body.model
        _note(generation, chunk, response)
        if not show_usage and chunk.pop("usage", None) is not None and not chunk["choices"]:
            continue
        yield chunk


def _note(generation: TextGeneration, chunk: Chunk, response: Response) -> None:
    operation = generation.operation
    for choice in chunk["choices"]:
        if response.from_model and (operation.text(choice) or operation.calls(choice)):
            response.pieces += 1
            response.last_token_at = response.clock()
            if response.first_token_at is None:
                response.first_token_at = response.last_token_at
        response.finish_reason = choice.get("finish_reason") or response.finish_reason
        if isinstance(reached := choice.get("stop_reason"), str):
            response.stop_reason = reached
    usage = chunk.get("usage")
    if usage:
        response.prompt_tokens = usage.get("prompt_tokens")
        response.completion_tokens = usage.get("completion_tokens")


class ChunkRendering:
    """The answer in the chunks' own form: they go on as they are, or become one object."""

    def __init__(self, generation: TextGeneration) -> None:
        self._generation = generation
        self._older = is_older_form(generation)
        self._created: int | None = None
        self._answers: dict[int, Gathered] = {}
        self._usage: Usage | None = None

    def events(self, chunk: Chunk) -> Iterable[bytes]:
        """See Rendering."""
        if self._older:
            chunk = in_older_form(chunk)
        return (event(to_json(chunk)),)

    def waiting(self) -> Iterable[bytes]:
        """See Rendering."""
        return (COMMENT,)

    def end(self) -> Iterable[bytes]:
        """See Rendering."""
        return (event(DONE),)

    def failure(self, error: ApiError) -> Iterable[bytes]:
        """See Rendering."""
        return (event(error.body.encode()),)

    def gather(self, chunk: Chunk) -> None:
        """See Rendering."""
        self._created = chunk.get("created", self._created)
        if chunk.get("usage"):
            self._usage = Usage.model_validate(chunk["usage"])
        for choice in chunk["choices"]:
            index = choice.get("index", 0)
            self._generation.operation.gather(self._answers.setdefault(index, Gathered(index)), choice)

    def whole(self) -> bytes:
        """See Rendering."""
        if not self._answers:
            raise model_errors.garbage()
        generation = self._generation
        whole = generation.operation.whole(
            generation.answer_id,
            self._created or generation.created,
            generation.body.model,
            [self._answers[index] for index in sorted(self._answers)],
            self._usage,
        )
        if self._older:
            return json.dumps(in_older_form(whole.model_dump(mode="json"))).encode()
        return whole.model_dump_json().encode()


def rendering_of(generation: TextGeneration) -> Rendering:
    """The form in which the caller gets the answer."""
    asked, body = generation.asked, generation.body
    own = generation.operation.rendering(generation.answer_id, generation.created, asked, body)
    return own or ChunkRendering(generation)


def deliver(
    rendering: Rendering,
    chunks: Iterable[Chunk],
    response: Response,
    watchers: Sequence[Watcher],
    *,
    streamed: bool,
) -> Iterator[bytes]:
    """The body of the reply; fills the headers. Raises ApiError where an assembled answer breaks off.

    An assembled answer is read to its end here, so its errors keep their status.
    """
    if streamed:
        response.headers.update(_SSE_HEADERS)
        return _events(rendering, chunks, watchers)
    response.headers["content-type"] = "application/json"
    for chunk in chunks:
        for watch in watchers:
            watch(chunk)
        rendering.gather(chunk)
    return iter([rendering.whole()])


def _events(rendering: Rendering, chunks: Iterable[Chunk], watchers: Sequence[Watcher]) -> Iterator[bytes]:
    for chunk in chunks:
        if chunk is HEARTBEAT:
            yield from rendering.waiting()
            continue
        for watch in watchers:
            watch(chunk)
        yield from rendering.events(chunk)
    yield from rendering.end()


def complete(
    body: Iterator[bytes], failure: Callable[[Exception], Iterable[bytes]], response: Response
) -> Iterator[bytes]:
    """The answer's pieces to the end; after the first one an error can only become an event on the stream."""
    try:
        yield from body
    except Exception as error:  # noqa: BLE001 - the stream ends with the error as an event
        yield from failure(error)
    response.ended = True


def event(data: bytes) -> bytes:
    """One event; `data` is a single line, as compact JSON is."""
    return b"data: " + data + b"\n\n"
