"""The examples in docstrings are true."""

import doctest
import importlib
import pkgutil

import pytest

import evaluation

MODULES = [
    info.name
    for info in pkgutil.walk_packages(evaluation.__path__, "evaluation.")
    if not info.ispkg and not info.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
