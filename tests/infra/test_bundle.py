"""Bundles: what goes in, that they are reproducible, and how uv is called for Lambda's platform."""

from __future__ import annotations

import hashlib
import shutil
import stat
import sys
import zipfile
from pathlib import Path

import aws_cdk as cdk
import pytest
from aws_cdk import aws_lambda as lambda_

from infra.constructs.bundle import Bundle, BundleError

LOCK = "requirements/locks/lambda-door.txt"


def write_wheel(folder: Path) -> str:
    """The lock of a pure-Python wheel `tinydep` 1.0, so that uv needs no index."""
    folder.mkdir()
    info = "tinydep-1.0.dist-info"
    file = folder / "tinydep-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as wheel:
        wheel.writestr("tinydep/__init__.py", "ANSWER = 42\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tinydep\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return f"tinydep==1.0 --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A small repository with one function, and uv pointed at a folder of wheels."""
    root, lock = tmp_path / "repo", write_wheel(tmp_path / "wheels")
    for path, text in {
        "lambdas/__init__.py": "",
        "lambdas/door/handler.py": "def handler(event, context): ...\n",
        "lambdas/door/__pycache__/handler.pyc": "stale",
        "lambdas/door/tests/test_handler.py": "",
        "lambdas/runtime/stream_bootstrap": "#!/bin/sh\n",
        "contracts/__init__.py": "",
        "evaluation/__init__.py": "",
        "evaluation/report.py": "",
        "evaluation/statistics/__init__.py": "",
        LOCK: lock,
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (root / "lambdas/runtime/stream_bootstrap").chmod(0o755)
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    return root


def bundle(root: Path, *, host: bool = True) -> Bundle:
    return Bundle("door", "python3.14", "arm64", host=host, root=root)


def listing(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_byte_code_is_shipped_where_this_interpreter_is_the_functions(checkout, tmp_path):
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    ours = Bundle("door", f"python{version}", "arm64", host=True, root=checkout)
    for place in ("first", "second"):
        ours.build(tmp_path / place, cache=tmp_path / f"cache-{place}")

    compiled = {path for path in listing(tmp_path / "first") if path.endswith(".pyc")}

    tag = sys.implementation.cache_tag
    assert {
        f"tinydep/__pycache__/__init__.{tag}.pyc",
        f"lambdas/door/__pycache__/handler.{tag}.pyc",
    } <= compiled
    for path in compiled:  # the same wherever it is built
        content = (tmp_path / "first" / path).read_bytes()
        assert content == (tmp_path / "second" / path).read_bytes()
        assert b"/var/task/" in content


@pytest.mark.parametrize("host", [True, False])
def test_a_bundle_holds_sources_and_pins_and_no_ballast(checkout, tmp_path, host):
    bundle(checkout, host=host).build(tmp_path / "out", cache=tmp_path / "cache")

    assert listing(tmp_path / "out") == {
        "lambdas/__init__.py",
        "lambdas/door/handler.py",
        "lambdas/runtime/stream_bootstrap",
        "contracts/__init__.py",
        "evaluation/__init__.py",
        "evaluation/statistics/__init__.py",
        "tinydep/__init__.py",
    }


def test_the_bootstrap_stays_executable(checkout, tmp_path):
    bundle(checkout).build(tmp_path / "out", cache=tmp_path / "cache")

    assert (tmp_path / "out/lambdas/runtime/stream_bootstrap").stat().st_mode & stat.S_IXUSR


def test_the_hash_follows_sources_lock_platform_and_mode(checkout):
    first = bundle(checkout)
    seen = {first.hash}
    assert bundle(checkout).hash in seen
    (checkout / "lambdas/door/__pycache__/handler.pyc").write_text("other")
    assert bundle(checkout).hash in seen

    seen.add(Bundle("door", "python3.14", "x86_64", host=True, root=checkout).hash)
    seen.add(bundle(checkout, host=False).hash)
    (checkout / "lambdas/door/handler.py").write_text("changed = True\n")
    seen.add(bundle(checkout).hash)
    (checkout / "lambdas/runtime/stream_bootstrap").chmod(0o644)
    seen.add(bundle(checkout).hash)
    (checkout / LOCK).write_text("# again\n" + (checkout / LOCK).read_text())
    seen.add(bundle(checkout).hash)

    assert len(seen) == 6


def test_an_unchanged_lock_is_installed_once(checkout, tmp_path, monkeypatch):
    bundle(checkout).build(tmp_path / "first", cache=tmp_path / "cache")
    shutil.rmtree(tmp_path / "wheels")
    shutil.rmtree(tmp_path / "uv")
    (checkout / "lambdas/door/handler.py").write_text("changed = True\n")

    bundle(checkout).build(tmp_path / "second", cache=tmp_path / "cache")

    assert "tinydep/__init__.py" in listing(tmp_path / "second")


def test_a_pin_that_cannot_be_had_says_so_and_leaves_no_cache(checkout, tmp_path):
    (checkout / LOCK).write_text(f"not-there==9 --hash=sha256:{'0' * 64}\n")

    with pytest.raises(BundleError, match=r"lambda-door\.txt"):
        bundle(checkout).build(tmp_path / "out", cache=tmp_path / "cache")

    assert list((tmp_path / "cache").iterdir()) == []


def synthesize(root: Path, outdir: Path) -> None:
    app = cdk.App(outdir=str(outdir))
    stack = cdk.Stack(app, "Stack")
    lambda_.Function(
        stack,
        "Door",
        code=bundle(root).code(),
        handler="lambdas.door.handler.handler",
        runtime=lambda_.Runtime.PYTHON_3_14,
    )
    app.synth()


def test_an_unchanged_bundle_is_taken_from_the_output_folder(checkout, tmp_path, monkeypatch):
    outdir = tmp_path / "cdk.out"
    synthesize(checkout, outdir)
    shutil.rmtree(outdir / ".wheels")
    shutil.rmtree(tmp_path / "wheels")
    shutil.rmtree(tmp_path / "uv")

    synthesize(checkout, outdir)

    (built,) = [folder for folder in outdir.glob("asset.*") if folder.is_dir()]
    assert "tinydep/__init__.py" in listing(built)


def test_pins_that_cannot_be_had_end_synth_with_uvs_words(checkout, tmp_path):
    (checkout / LOCK).write_text(f"not-there==9 --hash=sha256:{'0' * 64}\n")

    with pytest.raises(SystemExit, match=r"uv could not install lambda-door\.txt"):
        synthesize(checkout, tmp_path / "cdk.out")


def test_uv_is_asked_for_lambdas_platform(checkout, tmp_path):
    command = bundle(checkout, host=False).install_command(tmp_path)

    assert "--only-binary=:all:" in command
    assert command[command.index("--python-version") + 1] == "3.14"
    assert command[command.index("--python-platform") + 1] == "aarch64-manylinux_2_28"


def test_a_wheel_of_another_hash_is_refused(checkout, tmp_path):
    (checkout / LOCK).write_text(f"tinydep==1.0 --hash=sha256:{'0' * 64}\n")

    with pytest.raises(BundleError, match="Hash mismatch"):
        bundle(checkout).build(tmp_path / "out", cache=tmp_path / "cache")


def test_a_package_without_a_hash_is_refused(checkout, tmp_path):
    (checkout / LOCK).write_text("tinydep==1.0\n")

    with pytest.raises(BundleError, match="hash"):
        bundle(checkout).build(tmp_path / "out", cache=tmp_path / "cache")


def test_the_real_functions_ship_their_bootstrap_and_contracts():
    shipped = {
        path.as_posix() for path in Bundle("inference", "python3.14", "arm64", host=False).source_files()
    }

    assert {
        "lambdas/inference/handler.py",
        "lambdas/runtime/stream_bootstrap",
        "contracts/chat.py",
    } <= shipped
    assert not {path for path in shipped if "__pycache__" in path or path.startswith("tests/")}
