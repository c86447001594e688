"""The stored support pairs are what their generator writes."""

import importlib.util

from tests.support.training_data import FIXTURES


def test_the_stored_pairs_are_what_the_generator_writes() -> None:
    spec = importlib.util.spec_from_file_location("generate", FIXTURES / "generate.py")
    assert spec
    assert spec.loader
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    stored = (FIXTURES / "support_pairs.jsonl").read_text(encoding="utf-8")
    assert stored == generator.as_jsonl(generator.rows())
