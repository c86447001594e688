"""Whether an environment can serve a model, with the shipped settings and models of a few bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.settings import load
from operations import model_checks as checks
from operations.progress import CommandError
from operations.weights import Weights
from tests.support.tiny_safetensors import write_model

PROD, DEV, LOCAL = load("prod"), load("dev"), load("local")


def weights(gigabytes: float) -> Weights:
    return Weights(files=1, size_bytes=int(gigabytes * 1e9), types=("BF16",))


@pytest.mark.parametrize(
    ("card", "shown"),
    [
        ("---\nlicense: llama3.1\n---\n", "llama3.1 (README.md)"),
        ("---\nlicense: other\nlicense_name: qwen\n---\n", "qwen (README.md)"),
        ("---\r\nlicense: mit\r\n---\r\n", "mit (README.md)"),
    ],
)
def test_the_licence_is_the_model_cards(tmp_path: Path, card: str, shown: str) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "README.md").write_bytes(card.encode())
    assert checks.licence_of(folder, None) == shown


def test_licence_files_are_named_and_a_declared_licence_counts(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "LICENSE.txt").write_text("text")
    assert checks.licence_of(folder, None) == "apache-2.0 (README.md, LICENSE.txt)"
    (folder / "README.md").unlink()
    assert checks.licence_of(folder, None) == "see the file (LICENSE.txt)"
    (folder / "LICENSE.txt").unlink()
    assert checks.licence_of(folder, "Apache-2.0") == "Apache-2.0 (declared by you)"


@pytest.mark.parametrize(
    "card", ["", "# no front matter", "---\n- a\n---\n", "---\n{\n---\n", "---\nlicense:\n---\n"]
)
def test_a_model_without_a_licence_is_refused(tmp_path: Path, card: str) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "README.md").write_text(card)
    with pytest.raises(CommandError, match="LICENCE="):
        checks.licence_of(folder, None)


def test_the_engines_version_decides_which_architectures_are_served() -> None:
    note = checks.check_architecture({"architectures": ["LlamaForCausalLM"]}, PROD, False)
    assert "served by vLLM 0." in note
    for config in ({"architectures": ["BertModel"]}, {"architectures": ["OwnForCausalLM"]}):
        with pytest.raises(CommandError, match="does not serve"):
            checks.check_architecture(config, PROD, True)
    with pytest.raises(CommandError, match="no `architectures`"):
        checks.check_architecture({}, PROD, True)


def test_our_own_engine_serves_what_transformers_knows() -> None:
    assert (
        checks.check_architecture({"architectures": ["LlamaForCausalLM"]}, LOCAL, True) == "LlamaForCausalLM"
    )
    with pytest.raises(CommandError, match="not an architecture"):
        checks.check_architecture({"architectures": ["OwnForCausalLM"]}, LOCAL, False)


def test_a_context_beyond_the_models_is_refused_with_the_number_to_write() -> None:
    assert checks.check_context({"max_position_embeddings": 131_072}, PROD) == "8192 of 131072 tokens"
    with pytest.raises(CommandError, match="max_context_tokens: 4096"):
        checks.check_context({"max_position_embeddings": 4096}, PROD)
    with pytest.raises(CommandError, match="2048"):
        checks.check_context({"text_config": {"max_position_embeddings": 2048}}, PROD)
    stretched = {"max_position_embeddings": 4096, "rope_scaling": {"factor": 4}}
    assert checks.check_context(stretched, PROD)


def test_weights_beyond_the_devices_memory_are_refused_by_the_key_to_change() -> None:
    assert "16.00 GB of weights" in checks.check_fit(weights(16), 16_000_000_000, PROD)
    with pytest.raises(CommandError, match=r"endpoint\.instances\.type"):
        checks.check_fit(weights(70), 70_000_000_000, PROD)


def test_weights_beyond_a_cpu_machines_memory_are_refused() -> None:
    assert "in 16 GB of ml.c7i.2xlarge" in checks.check_fit(weights(0.3), 300_000_000, LOCAL)
    with pytest.raises(CommandError, match=r"19\.5 GB of memory, and ml\.c7i\.2xlarge has 16"):
        checks.check_fit(weights(15), 15_000_000_000, LOCAL)


@pytest.mark.parametrize(
    ("instance_type", "memory"),
    [
        # From the EC2 instance type pages.
        ("ml.c7i.2xlarge", 16), ("ml.c5.large", 4), ("ml.m5.xlarge", 16), ("ml.m7i.48xlarge", 768),
        ("ml.r5.24xlarge", 768), ("ml.c6gn.medium", 2), ("ml.inf2.xlarge", None), ("ml.t2.medium", None),
    ],
)  # fmt: skip
def test_memory_of_machines_without_accelerators(instance_type: str, memory: float | None) -> None:
    assert checks.host_memory_gb(instance_type) == memory
