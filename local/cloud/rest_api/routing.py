"""Which method serves a request: a tree of path segments, walked by specificity.

A literal segment beats `{name}`, which beats a greedy `{name+}`; API Gateway routes on the pair of resource
and method, so a resource that does not serve the verb lets the request fall through to a less specific one.
Knows only paths and verbs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import unquote

T = TypeVar("T")
ANY = "ANY"


@dataclass
class _Node(Generic[T]):
    literals: dict[str, _Node[T]] = field(default_factory=dict)
    parameters: list[tuple[str, _Node[T]]] = field(default_factory=list)
    greedy: list[tuple[str, _Node[T]]] = field(default_factory=list)
    methods: dict[str, T] = field(default_factory=dict)


class RouteTree(Generic[T]):
    """Routes keyed by (resource path, HTTP method); values are handed back as they came."""

    def __init__(self, routes: Mapping[tuple[str, str], T]) -> None:
        self._root: _Node[T] = _Node()
        for (path, verb), value in routes.items():
            self._place(path).methods[verb.upper()] = value

    def match(self, verb: str, path: str) -> tuple[T, dict[str, str]] | None:
        """The route for a percent-encoded path and its decoded path parameters, or None."""
        segments = path.strip("/").split("/") if path.strip("/") else []
        return _walk(self._root, segments, 0, verb.upper())

    def _place(self, path: str) -> _Node[T]:
        node = self._root
        for part in filter(None, path.split("/")):
            if part.startswith("{") and part.endswith("+}"):
                node = _child(node.greedy, part[1:-2])
            elif part.startswith("{") and part.endswith("}"):
                node = _child(node.parameters, part[1:-1])
            else:
                node = node.literals.setdefault(part, _Node())
        return node


def _child(children: list[tuple[str, _Node[T]]], name: str) -> _Node[T]:
    for known, node in children:
        if known == name:
            return node
    children.append((name, _Node()))
    return children[-1][1]


def _walk(node: _Node[T], segments: list[str], position: int, verb: str) -> tuple[T, dict[str, str]] | None:
    if position == len(segments):
        served = node.methods.get(verb) or node.methods.get(ANY)
        return (served, {}) if served is not None else None
    segment = segments[position]
    literal = node.literals.get(unquote(segment))
    if literal is not None and (found := _walk(literal, segments, position + 1, verb)):
        return found
    if segment:
        for name, child in node.parameters:
            if found := _walk(child, segments, position + 1, verb):
                return found[0], {name: unquote(segment), **found[1]}
    for name, child in node.greedy:
        served = child.methods.get(verb) or child.methods.get(ANY)
        if served is not None:
            return served, {name: unquote("/".join(segments[position:]))}
    return None
