"""Which route serves a path."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.cloud.rest_api.routing import RouteTree

ROUTES = {
    (path, verb): f"{verb} {path}"
    for path, verb in [
        ("/", "GET"),
        ("/v1", "OPTIONS"),
        ("/v1/models", "GET"),
        ("/v1/models/{model}", "GET"),
        ("/v1/models/{model}/files", "ANY"),
        ("/v1/models/latest", "GET"),
        ("/v1/{proxy+}", "ANY"),
        ("/only/{name+}", "POST"),
    ]
}
TREE = RouteTree(ROUTES)


@pytest.mark.parametrize(
    ("verb", "path", "route", "parameters"),
    [
        ("GET", "/", "GET /", {}),
        ("GET", "/v1/models", "GET /v1/models", {}),
        ("GET", "/v1/models/", "GET /v1/models", {}),
        ("GET", "/v1/models/latest", "GET /v1/models/latest", {}),
        ("GET", "/v1/models/smol", "GET /v1/models/{model}", {"model": "smol"}),
        ("GET", "/v1/models/org%2Fsmol", "GET /v1/models/{model}", {"model": "org/smol"}),
        ("PUT", "/v1/models/smol/files", "ANY /v1/models/{model}/files", {"model": "smol"}),
        ("DELETE", "/v1/models", "ANY /v1/{proxy+}", {"proxy": "models"}),
        ("GET", "/v1/a/b%20c", "ANY /v1/{proxy+}", {"proxy": "a/b c"}),
        ("POST", "/only/a/b", "POST /only/{name+}", {"name": "a/b"}),
    ],
)
def test_the_most_specific_route_that_serves_the_verb_wins(verb, path, route, parameters):
    assert TREE.match(verb, path) == (route, parameters)


@pytest.mark.parametrize(
    ("verb", "path"), [("POST", "/"), ("GET", "/v2"), ("GET", "/v1"), ("POST", "/only"), ("GET", "/only/a")]
)
def test_an_unserved_path_or_verb_has_no_route(verb, path):
    assert TREE.match(verb, path) is None


segment = st.text(min_size=1, max_size=6).filter(lambda text: text not in (".", ".."))


@given(st.lists(segment, min_size=1, max_size=5))
def test_a_greedy_parameter_takes_the_whole_rest_decoded(parts):
    tree = RouteTree({("/{proxy+}", "ANY"): "all"})
    path = "/" + "/".join(quote(part, safe="") for part in parts)
    assert tree.match("GET", path) == ("all", {"proxy": "/".join(parts)})


@given(st.lists(segment, min_size=1, max_size=4), st.data())
def test_a_literal_route_is_never_shadowed(parts, data):
    """Whatever parameters and greedy routes stand beside it, the exact path finds its own route."""
    plain = [quote(part, safe="") for part in parts]
    literal = "/" + "/".join(part.replace("{", "_").replace("}", "_").replace("/", "_") for part in parts)
    index = data.draw(st.integers(0, len(plain) - 1))
    pieces = literal.strip("/").split("/")
    routes = {
        ("/" + "/".join([*pieces[:index], "{p}", *pieces[index + 1 :]]), "GET"): "parameter",
        ("/" + "/".join([*pieces[:index], "{g+}"]), "GET"): "greedy",
        (literal, "GET"): "literal",
    }
    target = "/" + "/".join(quote(piece, safe="") for piece in pieces)
    assert RouteTree(routes).match("GET", target) == ("literal", {})


@given(segment, segment)
def test_a_parameter_matches_exactly_one_segment(first, second):
    tree = RouteTree({("/x/{p}", "GET"): "one"})
    path = f"/x/{quote(first, safe='')}"
    assert tree.match("GET", path) == ("one", {"p": first})
    assert tree.match("GET", f"{path}/{quote(second, safe='')}") is None
