"""Weight files that are cut, damaged or not where their index says are found before they are uploaded."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operations.weights import INDEX, WeightsError, read_weights
from tests.support.tiny_safetensors import write_safetensors


def sharded(folder: Path) -> Path:
    write_safetensors(folder / "model-1.safetensors", {"a": 10, "b": 2})
    write_safetensors(folder / "model-2.safetensors", {"c": 4})
    placed = {"a": "model-1.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}
    (folder / INDEX).write_text(json.dumps({"weight_map": placed}))
    return folder


def test_files_types_and_size_are_read_from_the_headers(tmp_path: Path) -> None:
    found = read_weights(sharded(tmp_path))
    assert (found.files, found.size_bytes, found.types) == (2, 32, ("BF16",))


def test_a_shard_that_is_missing_cut_or_of_another_model_is_named(tmp_path: Path) -> None:
    sharded(tmp_path)
    second = tmp_path / "model-2.safetensors"
    whole = second.read_bytes()
    second.write_bytes(whole[:-1])
    with pytest.raises(WeightsError, match=r"model-2\.safetensors has \d+ bytes"):
        read_weights(tmp_path)
    write_safetensors(second, {"other": 4})
    with pytest.raises(WeightsError, match="lacks the tensor c"):
        read_weights(tmp_path)
    second.unlink()
    with pytest.raises(WeightsError, match=r"model-2\.safetensors is missing"):
        read_weights(tmp_path)


def test_an_index_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "../model.safetensors"}}))
    with pytest.raises(WeightsError, match="outside the folder"):
        read_weights(tmp_path)


def test_without_weights_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no \*\.safetensors"):
        read_weights(tmp_path)


@settings(max_examples=200)
@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda body: struct.pack("<Q", len(body)) + body))
def test_any_other_bytes_are_refused_in_one_way(
    tmp_path_factory: pytest.TempPathFactory, body: bytes
) -> None:
    folder = tmp_path_factory.mktemp("model")
    (folder / "model.safetensors").write_bytes(body)
    try:
        read_weights(folder)
    except WeightsError:
        return
    length = struct.unpack("<Q", body[:8])[0]
    assert isinstance(json.loads(body[8 : 8 + length]), dict)  # a file that really is one
