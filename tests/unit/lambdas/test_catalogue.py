"""Several models behind one front door: which one answers, who may call it, what it costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from contracts.access import (
    AccessKey,
    ModelBudget,
    Principal,
    context_of,
    may_call,
    narrowed,
)
from contracts.catalogue import (
    ENTRIES_ATTRIBUTE,
    Capabilities,
    ModelEntry,
    ModelPrice,
    catalogue_pk,
    write_entries,
)
from contracts.guards import GuardSettings
from contracts.routing import Routing, VariantRoute
from contracts.targets import BedrockTarget, EndpointTarget
from lambdas.aws.dynamodb import from_item, to_item
from tests.support.fake_model_endpoint import Reply, chat_events, cut
from tests.support.front_door import AUTHORIZER, ENDPOINT, MODEL, SETTINGS, Door, chat, emitted

OTHER = "evergreen-test-other"
BIG = ModelEntry(
    name="big",
    aliases=("gpt-4o",),
    target=EndpointTarget(endpoint_name=OTHER, model_version="b1", served_name="inner"),
    price=ModelPrice(input=10, output=20),
)
ADAPTER = ModelEntry(
    name="support", target=EndpointTarget(endpoint_name=ENDPOINT, model_version="a1", adapter="tone")
)
VECTORS = ModelEntry(
    name="vectors", kind="embedding", target=EndpointTarget(endpoint_name="vectors", model_version="e1")
)
PLAIN = ModelEntry(
    name="plain",
    capabilities=Capabilities(tools=False, structured_output=False),
    target=EndpointTarget(endpoint_name=OTHER, model_version="b1"),
)
CLAUDE = ModelEntry(name="far", target=BedrockTarget(kind="bedrock", model_id="openai.gpt-oss-20b-1:0"))
MODELS = [BIG, ADAPTER, VECTORS, PLAIN, CLAUDE]
GOOD = Reply(parts=cut(chat_events("Hel", "lo"), 50))


@pytest.fixture
def several(make_door: Callable[..., Door]) -> Door:
    return make_door(SETTINGS.model_copy(update={"models": MODELS}))


def ask(door: Door, model: str, *, route: str = "/v1/chat/completions", **fields: Any) -> tuple[int, Any]:
    scopes = fields.pop("scopes", "inference")
    reply, body = door.ask(
        {**chat(), "model": model, **fields}, route=route, **{**AUTHORIZER, "scopes": scopes}
    )
    return reply.status, json.loads(body)


@pytest.mark.parametrize(
    ("asked", "answers", "endpoint", "sent", "version"),
    [
        (MODEL, MODEL, ENDPOINT, MODEL, "v1"),
        ("big", "big", OTHER, "inner", "b1"),
        ("gpt-4o", "big", OTHER, "inner", "b1"),
        ("support", "support", ENDPOINT, "tone", "a1"),
    ],
)
def test_the_model_that_is_named_answers(
    several: Door, asked: str, answers: str, endpoint: str, sent: str, version: str
) -> None:
    status, answer = ask(several, asked)
    assert (status, answer["model"]) == (200, answers)
    assert several.sagemaker.paths[-1] == f"/endpoints/{endpoint}/invocations-response-stream"
    assert json.loads(several.sagemaker.calls[-1][1])["model"] == sent
    record = several.record()
    assert record is not None
    assert (record["model"], record["model_version"]) == (answers, version)


def test_metrics_stand_under_the_models_own_endpoint(
    several: Door, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(several, "gpt-4o")
    (line,) = emitted(capsys.readouterr().out, "evergreen.requests")
    assert (line["endpoint"], line["model"], line["model_version"]) == (OTHER, "big", "b1")


@pytest.mark.parametrize("model", ["gpt-9", "BIG", "", "x" * 256, "a\nb"])
@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"])
def test_an_unknown_model_is_404_everywhere(several: Door, model: str, route: str) -> None:
    body = {"model": model, "messages": chat()["messages"], "prompt": "x", "input": "x"}
    wanted = {"/v1/chat/completions": "messages", "/v1/completions": "prompt", "/v1/embeddings": "input"}
    reply, text = several.ask({name: body[name] for name in ("model", wanted[route])}, route=route)
    error = json.loads(text)["error"]
    assert (reply.status, error["code"]) in [(404, "model_not_found"), (400, "invalid_value")]
    assert (reply.status == 400) == (model == "")
    assert "\n" not in error["message"]
    assert several.sagemaker.calls == []


def test_a_model_of_another_kind_is_400_and_says_where_to_go(several: Door) -> None:
    status, answer = ask(several, "vectors")
    assert (status, answer["error"]["code"]) == (400, "unsupported_operation")
    assert "/v1/embeddings" in answer["error"]["message"]
    assert "'big'" in answer["error"]["message"]
    reply, text = several.ask({"model": "big", "input": "x"}, route="/v1/embeddings")
    assert (reply.status, json.loads(text)["error"]["code"]) == (400, "unsupported_operation")
    reply, text = several.ask({"model": "far", "prompt": "x"}, route="/v1/completions")
    assert (reply.status, json.loads(text)["error"]["param"]) == (400, "model")
    assert several.sagemaker.calls == []


FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"tools": [FUNCTION]}, "tools"), ({"response_format": {"type": "json_object"}}, "response_format")],
)
def test_what_a_model_does_not_declare_is_refused_and_the_rest_is_not(
    several: Door, fields: dict[str, Any], param: str
) -> None:
    status, answer = ask(several, "plain", **fields)
    assert (status, answer["error"]["param"]) == (400, param)
    assert ask(several, "plain", response_format={"type": "text"})[0] == 200
    assert ask(several, "big", **fields)[0] == 200


# --- keys ------------------------------------------------------------------------------------------------


def test_a_key_of_some_models_sees_no_others(several: Door) -> None:
    scopes = "inference model:big"
    assert ask(several, "gpt-4o", scopes=scopes)[0] == 200
    refused = ask(several, MODEL, scopes=scopes)
    unknown = ask(several, "gpt-9", scopes=scopes)
    assert refused[0] == unknown[0] == 404
    words = [
        answer["error"]["message"].replace(name, "…")
        for (_, answer), name in ((refused, MODEL), (unknown, "gpt-9"))
    ]
    assert words[0] == words[1]


@pytest.mark.parametrize(
    ("own", "token", "allowed"),
    [
        ("inference", "inference", {"a", "b"}),
        ("inference model:a", "inference", {"a"}),
        ("inference", "inference model:a", {"a"}),
        ("inference model:a model:b", "inference model:b model:c", {"b"}),
        ("inference model:a", "inference model:b", set()),
    ],
)
def test_a_token_narrows_models_and_never_widens_them(own: str, token: str, allowed: set[str]) -> None:
    scopes = narrowed(own.split(), token.split())
    assert "inference" in scopes
    assert {name for name in ("a", "b") if may_call(scopes, name)} == allowed
    assert "choose-variant" not in narrowed(["inference"], ["inference", "choose-variant"])


def test_budgets_of_models_survive_the_authorizers_context() -> None:
    budgets = {"big": ModelBudget(tokens_per_day=5), "small": ModelBudget(requests_per_day=1)}
    key = AccessKey(pk="KEY#x", tenant="t", name="n", scopes=[], created_at=0, model_budgets=budgets)
    assert Principal.from_context(context_of(key)).model_budgets == budgets


def budgeted(door: Door, model: str, **limits: str) -> tuple[int, Any]:
    budgets = json.dumps({"big": {"requests_per_day": 2, "tokens_per_day": 600}})
    caller: dict[str, Any] = {**AUTHORIZER, "model_budgets": budgets, **limits}
    reply, body = door.ask({**chat(), "model": model}, **caller)
    return reply.status, json.loads(body)


def test_a_models_budget_holds_for_that_model_alone(several: Door) -> None:
    assert [budgeted(several, "gpt-4o")[0] for _ in range(2)] == [200, 200]
    status, answer = budgeted(several, "big")
    assert (status, answer["error"]["code"]) == (429, "requests_per_day_exceeded")
    assert "'big'" in answer["error"]["message"]
    assert budgeted(several, MODEL)[0] == 200


def test_what_no_other_limit_lets_through_is_given_back_to_the_model(several: Door) -> None:
    assert budgeted(several, "big", requests_per_day="0")[0] == 429
    (row,) = [row for row in rows(several) if row["sk"].startswith("MODELDAY#")]
    assert (row["requests"], row["charged"]) == (0, 0)
    assert budgeted(several, "big")[0] == 200
    (row,) = [row for row in rows(several) if row["sk"].startswith("MODELDAY#")]
    assert (row["requests"], row["charged"]) == (1, 5 + 3)


def test_cost_follows_the_models_price(several: Door) -> None:
    ask(several, "big")
    (day,) = [row for row in rows(several) if row["sk"].startswith("DAY#")]
    assert day["cost_nano_usd"] == (5 * 10 + 3 * 20) * 1000


def rows(door: Door) -> list[dict[str, Any]]:
    items = door.tables.scan(TableName="records")["Items"]
    return [row for row in map(from_item, items) if row["pk"].startswith("USAGE#")]


# --- parts of their own ----------------------------------------------------------------------------------


def test_guards_of_a_model_are_its_own(make_door: Callable[..., Door]) -> None:
    strict = BIG.model_copy(update={"guards": GuardSettings(denied_topics={"x": ["pipe bomb"]})})
    door = make_door(SETTINGS.model_copy(update={"models": [strict]}))
    bad = [{"role": "user", "content": "a pipe bomb"}]
    assert ask(door, "big", messages=bad)[1]["choices"][0]["finish_reason"] == "content_filter"
    assert ask(door, MODEL, messages=bad)[1]["choices"][0]["finish_reason"] == "stop"


def test_a_model_that_is_down_opens_its_own_circuit_only(several: Door) -> None:
    down = Reply(status=503, error=("ServiceUnavailable", {"Message": "no"}))
    several.sagemaker.replies_of = {OTHER: down, ENDPOINT: GOOD}
    for _ in range(6):
        ask(several, "big")
    before = len(several.sagemaker.calls)
    assert ask(several, "big")[0] == 503
    assert len(several.sagemaker.calls) == before
    assert ask(several, MODEL)[0] == 200


def test_each_endpoint_has_its_own_split_and_an_adapter_none(several: Door) -> None:
    for name, endpoint in (("one", ENDPOINT), ("two", OTHER)):
        routes = [VariantRoute(name=name, weight=1, model_version=f"{name}-v")]
        several.route(Routing(endpoint_name=endpoint, experiment="e", variants=routes))
    variants = {}
    for model in (MODEL, "big", "support"):
        ask(several, model)
        variants[model] = several.sagemaker.calls[-1][0].get("x-amzn-sagemaker-target-variant")
    assert variants == {MODEL: "one", "big": "two", "support": None}


def test_naming_a_variant_of_a_model_without_variants_is_refused(several: Door) -> None:
    caller = {**AUTHORIZER, "scopes": "inference choose-variant"}
    headers = {"x-evergreen-variant": "champion"}
    reply, body = several.ask({**chat(), "model": "support"}, headers=headers, **caller)
    assert (reply.status, json.loads(body)["error"]["code"]) == (400, "unknown_variant")
    assert several.ask(chat(), headers=headers, **caller)[0].status == 200


def test_an_operators_entry_answers_without_a_deployment(make_door: Callable[..., Door], tables: Any) -> None:
    item = {"pk": catalogue_pk(ENDPOINT), ENTRIES_ATTRIBUTE: write_entries([BIG])}
    tables.put_item(TableName="access", Item=to_item(item))
    door = make_door(SETTINGS)
    assert [ask(door, model)[0] for model in (MODEL, "gpt-4o", "support")] == [200, 200, 404]


# --- models that answer with numbers ---------------------------------------------------------------------

RANKER = ModelEntry(
    name="ranker", kind="rerank", target=EndpointTarget(endpoint_name="ranker", model_version="r1")
)
MODERATOR = ModelEntry(
    name="toxic",
    kind="classification",
    aliases=("omni-moderation-latest",),
    target=EndpointTarget(endpoint_name="toxic", model_version="c1", served_name="inner"),
)


@pytest.fixture
def encoders(make_door: Callable[..., Door]) -> Door:
    return make_door(SETTINGS.model_copy(update={"models": [VECTORS, RANKER, MODERATOR]}))


def reply_of(**fields: Any) -> list[Reply]:
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    body = {"id": "x", "created": 1, "model": "inner", "usage": usage, **fields}
    return [Reply(parts=cut(json.dumps(body).encode(), 50))]


@pytest.mark.parametrize("model", ["ranker", "vectors"])
def test_rankings_go_to_a_cross_encoder_or_an_embedding_model(encoders: Door, model: str) -> None:
    encoders.sagemaker.replies = reply_of(results=[{"index": 0, "relevance_score": 0.5}])
    body = {"model": model, "query": "q", "documents": ["a"]}
    reply, text = encoders.ask(body, route="/v1/rerank")
    assert (reply.status, json.loads(text)["model"]) == (200, model)
    assert encoders.sagemaker.paths[-1].startswith(f"/endpoints/{model}/")


@pytest.mark.parametrize(
    ("route", "body", "named"),
    [
        ("/v1/rerank", {"model": "toxic", "query": "q", "documents": ["a"]}, "ranker"),
        ("/v1/score", {"model": "toxic", "text_1": "q", "text_2": "a"}, "vectors"),
        ("/v1/classify", {"model": "ranker", "input": "a"}, "toxic"),
        ("/v1/moderations", {"model": "vectors", "input": "a"}, "toxic"),
        ("/v1/embeddings", {"model": "ranker", "input": "a"}, "vectors"),
    ],
)
def test_a_model_of_another_kind_is_refused_with_those_that_fit(
    encoders: Door, route: str, body: dict[str, Any], named: str
) -> None:
    reply, text = encoders.ask(body, route=route)
    error = json.loads(text)["error"]
    assert (reply.status, error["code"], error["param"]) == (400, "unsupported_operation", "model")
    assert f"'{named}'" in error["message"]
    assert encoders.sagemaker.calls == []


@pytest.mark.parametrize("model", ["toxic", "omni-moderation-latest"])
def test_a_classifier_of_the_catalogue_moderates_where_it_is_named(encoders: Door, model: str) -> None:
    scores = [{"label": "insult", "score": 0.75}, {"label": "safe", "score": 0.25}]
    row = {"index": 0, "label": "insult", "probs": [0.75, 0.25], "num_classes": 2, "scores": scores}
    encoders.sagemaker.replies = reply_of(data=[row])
    reply, text = encoders.ask({"model": model, "input": "hello"}, route="/v1/moderations")
    answer = json.loads(text)
    assert (reply.status, answer["model"], answer["results"][0]["categories"]["insult"]) == (
        200,
        "toxic",
        True,
    )
    assert json.loads(encoders.sagemaker.calls[-1][1]) == {"model": "inner", "input": ["hello"]}
    record = encoders.record()
    assert record is not None
    assert (record["model"], record["model_version"]) == ("toxic", "c1")


def test_without_a_model_the_guards_moderate_beside_it(encoders: Door) -> None:
    _, text = encoders.ask({"input": "you are an idiot"}, route="/v1/moderations")
    assert (json.loads(text)["model"], json.loads(text)["results"][0]["flagged"]) == ("guards", True)
    assert encoders.sagemaker.calls == []
