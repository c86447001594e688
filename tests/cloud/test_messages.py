"""`/v1/messages` as it is deployed: its key's header, its stream, and errors from whoever makes them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from contracts.messages_replies import MessageErrorReply, MessageReply
from tests.support.laptop import Laptop
from tests.support.messages_api import stream

CHAT, MESSAGES = "chat/completions", "messages"


def ask(laptop: Laptop, path: str, headers: dict[str, str], **fields: Any) -> httpx.Response:
    """One short answer."""
    messages = [{"role": "user", "content": "Name a tree."}]
    body = {"model": laptop.model, "max_tokens": 8, "messages": messages, **fields}
    return httpx.post(f"{laptop.api_url}/{path}", headers=headers, json=body, timeout=120)


def test_a_message_streamed_and_whole(laptop: Laptop) -> None:
    key = {"x-api-key": laptop.outputs["api_key"], "anthropic-version": "2023-06-01"}
    whole = ask(laptop, MESSAGES, key, temperature=0)
    told = MessageReply.model_validate_json(whole.content)
    assert whole.headers["request-id"] == told.id.removeprefix("msg_")
    events = stream(ask(laptop, MESSAGES, key, temperature=0, stream=True).content)
    deltas = [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(deltas) == told.content[0].model_dump()["text"]
    assert events[-2]["usage"] == told.usage.model_dump()
    # The engine ends at the text, and tells which it was.
    stopped = ask(laptop, MESSAGES, key, temperature=0, stop_sequences=[deltas[1]]).json()
    assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("stop_sequence", deltas[1])


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_a_key_counts_in_its_routes_own_header_only(laptop: Laptop, path: str, own: bool) -> None:
    key = laptop.outputs["api_key"]
    by_api_key, bearer = {"x-api-key": key}, {"Authorization": f"Bearer {key}"}
    right, wrong = (by_api_key, bearer) if path == MESSAGES else (bearer, by_api_key)
    assert ask(laptop, path, (right if own else wrong)).status_code == (200 if own else 401)


def test_api_gateways_own_errors_are_read_by_anthropics_clients(laptop: Laptop) -> None:
    refused = ask(laptop, MESSAGES, {"x-api-key": "eg-nobody"})
    error = MessageErrorReply.model_validate_json(refused.content)
    assert (refused.status_code, error.error.type) == (401, "authentication_error")
    assert error.request_id == refused.headers["request-id"]
