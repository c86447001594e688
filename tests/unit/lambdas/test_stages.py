"""Stages and helpers of the pipeline by themselves; whole requests stand in test_door_*."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.catalogue import Catalogue, ModelEntry, write_entries
from contracts.chat import ChatRequest
from contracts.routing import ROUTING_CACHE_SECONDS, Routing, VariantRoute
from contracts.targets import EndpointTarget, OpenAITarget
from lambdas.aws import events
from lambdas.aws.access_table import CatalogueItems
from lambdas.pipeline.admission import assign
from lambdas.pipeline.catalogue import LiveCatalogue
from lambdas.pipeline.delivery import observed
from lambdas.pipeline.operations import CHAT
from lambdas.pipeline.request import Chunk, Response, TextGeneration
from lambdas.pipeline.resilience import RetryBudget
from lambdas.runtime.logs import Logger
from tests.support.fake_model_endpoint import chat_events
from tests.support.front_door import chat


def routing(experiment: str = "e1", **weights: float) -> Routing:
    routes = [VariantRoute(name=name, weight=weight, model_version="v") for name, weight in weights.items()]
    return Routing(endpoint_name="e", experiment=experiment, variants=routes)


# --- server-sent events ----------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 60), min_size=1), st.booleans())
def test_events_are_found_wherever_the_bytes_are_cut(sizes: list[int], crlf: bool) -> None:
    whole = chat_events("grüße", "\\n\\n", "x")
    sent = whole.replace(b"\n", b"\r\n") if crlf else whole

    def parts() -> Iterator[bytes]:
        start, number = 0, 0
        while start < len(sent):
            size = sizes[number % len(sizes)]
            yield sent[start : start + size]
            start, number = start + size, number + 1

    expected = [block.removeprefix(b"data: ") for block in whole.split(b"\n\n")[:-1]]
    assert list(events.payloads(parts())) == expected


def test_comments_and_unfinished_events_are_left_out() -> None:
    assert list(events.payloads([b": ping\n\nevent: x\ndata: 1\n\ndata:2\n\ndata: 3"])) == [b"1", b"2"]


def test_an_event_without_end_is_given_up() -> None:
    endless = (b"x" * 65_536 for _ in range(1_000))
    with pytest.raises(events.EventTooLargeError):
        list(events.payloads(endless))


# --- variant choice --------------------------------------------------------------------------------------


def test_users_spread_by_weight() -> None:
    split = routing(champion=9, challenger=1)
    counts = Counter(assign(split, f"user-{number}") for number in range(20_000))
    # Four standard deviations of a binomial with n = 20,000 and p = 0.1.
    assert abs(counts["challenger"] - 2_000) < 4 * (20_000 * 0.1 * 0.9) ** 0.5
    assert set(counts) == {"champion", "challenger"}


def test_raising_a_weight_moves_nobody_away_from_it() -> None:
    users = [f"user-{number}" for number in range(2_000)]
    before, after = routing(champion=9, challenger=1), routing(champion=5, challenger=5)
    assert all(assign(after, u) == "challenger" for u in users if assign(before, u) == "challenger")


def test_a_new_experiment_reshuffles() -> None:
    users = [f"user-{number}" for number in range(200)]
    first, second = routing("e1", a=1, b=1), routing("e2", a=1, b=1)
    assert [assign(first, user) for user in users] != [assign(second, user) for user in users]


def test_a_variant_without_weight_gets_nobody() -> None:
    assert {assign(routing(a=0, b=1, c=0), f"u{number}") for number in range(200)} == {"b"}
    assert assign(routing(a=0, b=0), "u") is None


class Source:
    def __init__(self, *replies: CatalogueItems | Exception) -> None:
        self.replies = list(replies)
        self.asked: list[set[str]] = []

    def read(self, endpoints: Iterable[str]) -> CatalogueItems:
        self.asked.append(set(endpoints))
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


def live(source: Source, now: list[float]) -> LiveCatalogue:
    own = ModelEntry(name="own", target=EndpointTarget(endpoint_name="e", model_version="v1"))
    return LiveCatalogue(Catalogue([own]), source, Logger("test"), clock=lambda: now[0])


def items(routing: Routing | None = None, *added: ModelEntry) -> CatalogueItems:
    return CatalogueItems({"e": routing} if routing else {}, write_entries(added) if added else None)


def test_the_table_is_read_once_until_it_is_old() -> None:
    first, second = routing("e1", a=1), routing("e2", a=1)
    now = [0.0]
    source = Source(items(first), items(second))
    catalogue = live(source, now)

    def split() -> Routing | None:
        catalogue.read()
        return catalogue.routing("e")

    assert [split(), split()] == [first, first]
    now[0] = ROUTING_CACHE_SECONDS - 0.001
    assert split() == first
    now[0] = ROUTING_CACHE_SECONDS
    assert split() == second
    assert source.asked == [{"e"}, {"e"}]


def test_a_failing_source_leaves_split_and_models_in_force_and_is_not_hammered() -> None:
    first, added = routing("e1", a=1), hosted("new")
    now = [0.0]
    source = Source(items(first, added), OSError("throttled"), OSError("throttled"))
    catalogue = live(source, now)
    catalogue.read()
    now[0] = ROUTING_CACHE_SECONDS
    assert [catalogue.read().find("new"), catalogue.read().find("new")] == [added, added]
    assert catalogue.routing("e") == first
    assert len(source.asked) == 2


def test_an_operators_entries_come_and_go_and_their_endpoints_splits_are_read() -> None:
    other = ModelEntry(name="two", target=EndpointTarget(endpoint_name="f", model_version="v1"))
    now = [0.0]
    source = Source(items(None, other, hosted("far")), items(None, other), items())
    catalogue = live(source, now)
    seen = []
    for _ in range(3):
        seen.append([entry.name for entry in catalogue.read().entries])
        now[0] += ROUTING_CACHE_SECONDS
    assert seen == [["own", "two", "far"], ["own", "two"], ["own"]]
    assert source.asked == [{"e"}, {"e", "f"}, {"e", "f"}]


@pytest.mark.parametrize("text", ["no JSON", '[{"name": "x"}]', None], ids=["text", "fields", "clash"])
def test_entries_that_cannot_be_used_leave_the_last_ones_in_force(text: str | None) -> None:
    clash = write_entries([hosted("a", "own")])
    now = [0.0]
    source = Source(
        items(None, hosted("good")), CatalogueItems({}, text or clash), items(None, hosted("next"))
    )
    catalogue = live(source, now)
    catalogue.read()
    now[0] = ROUTING_CACHE_SECONDS
    assert catalogue.read().find("good") is not None
    now[0] = 2 * ROUTING_CACHE_SECONDS
    assert catalogue.read().find("next") is not None


def hosted(name: str, *aliases: str) -> ModelEntry:
    target = OpenAITarget(kind="openai", base_url="https://api.example.com/v1", model="far")
    return ModelEntry(name=name, aliases=aliases, target=target)


# --- observing -------------------------------------------------------------------------------------------


def watch(*chunks: Chunk, times: list[float]) -> Response:
    clock = iter(times)
    response = Response(clock=lambda: next(clock))
    body = ChatRequest.model_validate(chat(stream=True))
    generation = TextGeneration(CHAT, body, body, "chatcmpl-r", 0)
    list(observed(generation, chunks, response))
    return response


def delta(text: str) -> Chunk:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


def test_times_are_taken_at_the_first_and_the_last_text() -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}
    # IncomingRequest, then one reading per text: an empty text is no token.
    watched = watch(delta(""), delta("a"), delta("b"), delta("c"), usage, times=[10.0, 10.5, 10.6, 10.9])

    assert watched.time_to_first_token_ms == pytest.approx(500)
    assert watched.time_per_output_token_ms == pytest.approx(200)
    assert (watched.prompt_tokens, watched.completion_tokens) == (7, 3)


def test_one_token_has_no_time_per_token() -> None:
    watched = watch(delta("a"), times=[0.0, 1.0])
    assert watched.time_per_output_token_ms is None


# --- small things ----------------------------------------------------------------------------------------


def test_retries_are_a_share_of_requests() -> None:
    budget = RetryBudget(share=0.5, cap=2)
    assert [budget.take() for _ in range(3)] == [True, True, False]
    budget.request()
    assert not budget.take()
    budget.request()
    assert budget.take()


def test_a_failure_is_logged_without_its_message(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        json.loads("the caller's words")
    except ValueError as error:
        Logger("test").failure("broken", error)
    line = json.loads(capsys.readouterr().out)
    assert line["exception"] == "JSONDecodeError"
    assert line["frames"]
    assert "words" not in json.dumps(line)


def test_lines_below_the_level_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    Logger("test", "ERROR").warning("quiet")
    assert capsys.readouterr().out == ""
