"""The scaling target comes from a measurement of this very machine, model and image, or from the batch."""

from __future__ import annotations

import pytest

from infra.settings.capacity import CapacityError, capacity, target

FILE = """\
instance_type: ml.g6e.xlarge
model: llama-3.1-8b-instruct
image: vllm-cuda-2.4
measured: 2026-11-20
concurrent_requests: 40.0
invocations_per_minute: 250.0
"""
THIS = ("ml.g6e.xlarge", "llama-3.1-8b-instruct", "vllm-cuda-2.4")


def test_a_measurement_of_this_machine_model_and_image_is_taken(tmp_path):
    (tmp_path / "ml.g6e.xlarge.yaml").write_text(FILE)

    measured = capacity(*THIS, folder=tmp_path)

    assert target("concurrent_requests", measured, 64) == 28.0
    assert target("invocations", measured, 64) == 175.0


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_measurement_of_something_else_is_passed_over(tmp_path, at):
    asked = [*THIS]
    asked[at] = "another"
    (tmp_path / f"{asked[0]}.yaml").write_text(FILE)

    assert capacity(*asked, folder=tmp_path) is None


def test_without_one_most_of_the_batch_is_the_target(tmp_path):
    assert capacity(*THIS, folder=tmp_path) is None
    assert target("concurrent_requests", None, 64) == 44.0
    assert target("concurrent_requests", None, 1) == 1.0
    assert target("invocations", None, 64) is None


@pytest.mark.parametrize(
    "text", ["{", "concurrent_requests: 3", FILE + "more: 1\n", FILE.replace("40.0", "0")]
)
def test_a_file_that_is_none_is_named(tmp_path, text):
    (tmp_path / "ml.g6e.xlarge.yaml").write_text(text)

    with pytest.raises(CapacityError, match=r"bench/capacity/ml\.g6e\.xlarge\.yaml is no capacity file"):
        capacity(*THIS, folder=tmp_path)
