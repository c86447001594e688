"""The answer on its way to the caller: observed chunk by chunk, then rendered as events or as one body."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence

from contracts.chat import Usage
from lambdas.aws import model_errors
from lambdas.pipeline.invocation import DONE, HEARTBEAT
from lambdas.pipeline.older_form import in_older_form, is_older_form
from lambdas.pipeline.operations import Gathered
from lambdas.pipeline.request import Chunk, Response, TextGeneration

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
    usage = chunk.get("usage")
    if usage:
        response.prompt_tokens = usage.get("prompt_tokens")
        response.completion_tokens = usage.get("completion_tokens")


def deliver(
    generation: TextGeneration, chunks: Iterable[Chunk], response: Response, watchers: Sequence[Watcher]
) -> Iterator[bytes]:
    """The body of the reply; fills the headers. Raises ApiError where an assembled answer breaks off.

    An assembled answer is read to its end here, so its errors keep their status.
    """
    if generation.body.stream:
        response.headers.update(_SSE_HEADERS)
        return _events(generation, chunks, watchers)
    response.headers["content-type"] = "application/json"
    return iter([_assembled(generation, chunks, watchers)])


def _events(
    generation: TextGeneration, chunks: Iterable[Chunk], watchers: Sequence[Watcher]
) -> Iterator[bytes]:
    older = is_older_form(generation)
    for chunk in chunks:
        if chunk is HEARTBEAT:
            yield COMMENT
            continue
        for watch in watchers:
            watch(chunk)
        if older:
            chunk = in_older_form(chunk)
        yield event(json.dumps(chunk, ensure_ascii=False, separators=(",", ":")))
    yield event(DONE.decode())


def _assembled(generation: TextGeneration, chunks: Iterable[Chunk], watchers: Sequence[Watcher]) -> bytes:
    created: int | None = None
    answers: dict[int, Gathered] = {}
    usage: Usage | None = None
    for chunk in chunks:
        for watch in watchers:
            watch(chunk)
        created = chunk.get("created", created)
        if chunk.get("usage"):
            usage = Usage.model_validate(chunk["usage"])
        for choice in chunk["choices"]:
            index = choice.get("index", 0)
            generation.operation.gather(answers.setdefault(index, Gathered(index)), choice)
    if not answers:
        raise model_errors.garbage()
    whole = generation.operation.whole(
        generation.answer_id,
        created or generation.created,
        generation.body.model,
        [answers[index] for index in sorted(answers)],
        usage,
    )
    if is_older_form(generation):
        return json.dumps(in_older_form(whole.model_dump(mode="json"))).encode()
    return whole.model_dump_json().encode()


def complete(
    body: Iterator[bytes], error_body: Callable[[Exception], str], response: Response
) -> Iterator[bytes]:
    """The answer's pieces to the end; after the first one an error can only become an event on the stream."""
    try:
        yield from body
    except Exception as error:  # noqa: BLE001 - the stream ends with the error as an event
        yield event(error_body(error))
    response.ended = True


def event(data: str) -> bytes:
    """One event; `data` is a single line, as compact JSON is."""
    return b"data: " + data.encode() + b"\n\n"
