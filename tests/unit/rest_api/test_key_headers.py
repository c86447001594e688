"""Two authorizers of one function, each for a header: which of a request's keys decides, cached or not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.access import AccessKey, key_pk
from lambdas.authorizer.claims import AuthorizationError
from lambdas.authorizer.service import Authorizer
from tests.support.rest_api import RestApiHarness, uri

MESSAGES = "/v1/messages"
ROUTES = ("/v1/chat/completions", MESSAGES, "/v1/embeddings")
SECRETS = {tenant: f"eg-{tenant:x<43}" for tenant in ("alpha", "beta")}
OWNERS = {secret: tenant for tenant, secret in SECRETS.items()}


class Keys:
    """An access table with a key of each tenant."""

    def find(self, pk: str) -> AccessKey | None:
        for secret, tenant in OWNERS.items():
            if key_pk(secret) == pk:
                return AccessKey(
                    pk=pk,
                    tenant=tenant,
                    name="web",
                    usage_identifier=f"{tenant}-usage",
                    scopes=["inference"],
                    created_at=1,
                )
        return None


def gateway(ttl: int) -> RestApiHarness:
    """The API as the template has it: keys are the authorizer's answer, usage counted by them."""
    api = RestApiHarness()
    authorizer = Authorizer(Keys())

    def admit(event: dict[str, Any]) -> dict[str, Any]:
        try:
            return authorizer.admit(event)
        except AuthorizationError as refusal:
            raise ArithmeticError("Unauthorized") from refusal

    api.proxy(admit)
    api.api["apiKeySource"] = "AUTHORIZER"
    plan = {"id": "p", "apiStages": [{"apiId": "api1", "stage": "live"}]}
    api.raw_plans = [(plan, [{"id": f"k-{t}", "value": f"{t}-usage", "enabled": True} for t in SECRETS])]
    for name, kind, header in (("a", "REQUEST", "Authorization"), ("k", "TOKEN", "x-api-key")):
        api.authorizers.append(
            {
                "id": name,
                "type": kind,
                "authorizerUri": uri("f0"),
                "identitySource": f"method.request.header.{header}",
                "authorizerResultTtlInSeconds": ttl,
            }
        )
    for path in ROUTES:
        guard = "k" if path == MESSAGES else "a"
        api.route("POST", path, authorizationType="CUSTOM", authorizerId=guard, apiKeyRequired=True)
    return api


def ask(api: RestApiHarness, path: str, headers: dict[str, str]) -> tuple[int, str | None]:
    """The status, and whom the function behind believes to speak to."""
    reply = api.call("POST", path, headers)
    if reply.status != 200:
        return reply.status, None
    assert isinstance(reply.body, bytes)
    context = json.loads(reply.body)["requestContext"]
    assert context["identity"]["apiKeyId"] == f"k-{context['authorizer']['tenant']}"
    return 200, context["authorizer"]["tenant"]


def expected(path: str, headers: dict[str, str]) -> tuple[int, str | None]:
    """Only the route's own header counts, and only in its own form."""
    sent = {name.lower(): value for name, value in headers.items()}
    if path == MESSAGES:
        owner = OWNERS.get(sent.get("x-api-key", ""))
    else:
        scheme, _, secret = sent.get("authorization", "").partition(" ")
        owner = OWNERS.get(secret) if scheme.lower() == "bearer" else None
    return (200, owner) if owner else (401, None)


def spelled(name: str) -> st.SearchStrategy[str]:
    """A header's name in any case."""
    return st.lists(st.booleans(), min_size=len(name), max_size=len(name)).map(
        lambda upper: "".join(c.upper() if up else c for c, up in zip(name, upper, strict=True))
    )


VALUES = st.sampled_from(
    ["", "nonsense", *SECRETS.values(), *(f"Bearer {each}" for each in SECRETS.values())]
)
HEADERS = st.dictionaries(
    st.sampled_from(["authorization", "x-api-key", "api-key", "x-apikey", "proxy-authorization", "cookie"]),
    VALUES,
    max_size=4,
).flatmap(
    lambda sent: st.fixed_dictionaries({name: spelled(name) for name in sent}).map(
        lambda names: {names[name]: value for name, value in sent.items()}
    )
)


@pytest.mark.parametrize("ttl", [0, 300])
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(ROUTES), HEADERS), min_size=1, max_size=8))
def test_no_key_of_one_route_acts_on_another(ttl: int, requests: list[tuple[str, dict[str, str]]]) -> None:
    """One after another through the same gateway, so that whatever is cached meets the next request."""
    api = gateway(ttl)
    for path, headers in requests:
        assert ask(api, path, headers) == expected(path, headers)


@pytest.mark.parametrize("ttl", [0, 300])
def test_each_route_has_its_header(ttl: int) -> None:
    api = gateway(ttl)
    alpha, beta = {"x-api-key": SECRETS["alpha"]}, {"Authorization": f"Bearer {SECRETS['beta']}"}
    for _ in range(2):
        assert ask(api, MESSAGES, alpha) == (200, "alpha")
        assert ask(api, MESSAGES, alpha | beta) == (200, "alpha")
        assert ask(api, MESSAGES, beta) == (401, None)
        assert ask(api, ROUTES[0], beta | alpha) == (200, "beta")
        assert ask(api, ROUTES[0], alpha) == (401, None)


@pytest.mark.parametrize("ttl", [0, 300])
def test_without_its_header_nobody_is_asked_and_the_cache_is_kept_by_it(ttl: int) -> None:
    api = gateway(ttl)
    ask(api, MESSAGES, {"Authorization": f"Bearer {SECRETS['alpha']}"})
    assert api.events == []
    for tenant in ("alpha", "alpha", "beta"):
        ask(api, MESSAGES, {"x-api-key": SECRETS[tenant]})
    asked = [event["authorizationToken"] for event in api.events if event.get("type") == "TOKEN"]
    wanted = ["alpha", "beta"] if ttl else ["alpha", "alpha", "beta"]
    assert asked == [SECRETS[tenant] for tenant in wanted]
