"""What the Python programs share: one function for each feature, one JSON object on standard output for each.

A program runs in the environment of the client that it drives, as `python -m tests.clients.<program>`, with
`API_URL`, `API_KEY`, `MODEL` and `EMBEDDING_MODEL` in its environment. It writes down what its client saw and
judges nothing: tests/clients/features.py does, by the same rules for all. Standard library only.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import struct
import sys
import traceback
import warnings
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any

from tests.clients.scenario import SCENARIO

Seen = dict[str, Any]
API_URL, API_KEY = os.environ["API_URL"], os.environ["API_KEY"]
MODEL, EMBEDDING_MODEL = os.environ["MODEL"], os.environ["EMBEDDING_MODEL"]
MESSAGES = [
    {"role": "system", "content": SCENARIO["system"]},
    {"role": "user", "content": SCENARIO["question"]},
]
LONG_TEXT = "evergreen " * 20_000
"""More than any context of the laptop's models."""
PATIENCE_SECONDS = 300.0
_features: dict[str, Callable[[], Seen]] = {}


class ClientLimitError(Exception):
    """What the client does not offer, or does not let be seen: no matter of the server's."""


def feature(name: str) -> Callable[[Callable[[], Seen]], Callable[[], Seen]]:
    """The function that tells what the client saw of a feature, by its name in features.py."""

    def kept(function: Callable[[], Seen]) -> Callable[[], Seen]:
        _features[name] = function
        return function

    return kept


def run(*packages: str, limits: Mapping[str, str] | None = None) -> None:
    """Goes through the features, or those that the command line names.

    Args:
        packages: the client's own, whose versions are told.
        limits: why the client has nothing for a feature.
    """
    warnings.simplefilter("ignore")
    versions = {package: importlib.metadata.version(package) for package in packages}
    print(json.dumps({"versions": versions}), flush=True)
    for name, reason in (limits or {}).items():
        print(json.dumps({"feature": name, "limit": reason}), flush=True)
    for name, function in _features.items():
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        try:
            seen = function()
        except ClientLimitError as limit:
            seen = {"limit": str(limit)}
        except Exception as error:
            traceback.print_exc()
            seen = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps({"feature": name, **seen}, default=str), flush=True)


def raised(wanted: type[BaseException], call: Callable[[], Any]) -> tuple[list[str], str]:
    """The classes of what a call raises, most special first, none for nothing; and the one it should be."""
    try:
        call()
    except Exception as error:
        return [kind.__name__ for kind in type(error).__mro__ if kind is not object], wanted.__name__
    return [], wanted.__name__


def floats(encoded: str) -> list[float]:
    """The vector that `encoding_format: base64` holds."""
    data = b64decode(encoded, validate=True)
    return list(struct.unpack(f"<{len(data) // 4}f", data))
