"""Writes docs/engines.md from the tables of engines: `python -m infra.engines_reference` prints it."""

from __future__ import annotations

from collections.abc import Iterator

from infra.settings.engine_promises import EnginePromise, promise_table
from infra.settings.engine_versions import engine_versions
from infra.settings.images import image_table

_HEAD = """# Engines

Which model server keeps which promise, what each image holds, and what the recorded versions of vLLM take.
This page is written from `infra/settings/engine_promises.yaml`, `images.yaml` and `engine_versions.yaml`:
`python -m infra.engines_reference > docs/engines.md`.

## Promises

**yes**: a test shows it. **own**: the server has it by itself, `infra` switches it on, and no test here shows
it. **no**: the reason stands below, and a key of the settings that relies on it is refused.
"""


def render() -> str:
    """The whole page as Markdown."""
    return "\n".join([_HEAD, *_promises(), *_reasons(), *_tests(), *_images(), *_versions()]).rstrip() + "\n"


def _promises() -> Iterator[str]:
    table = promise_table()
    yield "| promise | " + " | ".join(table.servers.values()) + " |"
    yield "|---" * (len(table.servers) + 1) + "|"
    for promise in table.promises.values():
        yield f"| {promise.means} | " + " | ".join(_state(promise, one) for one in table.servers) + " |"
    yield ""


def _state(promise: EnginePromise, server: str) -> str:
    if server in promise.shown:
        return "yes"
    return "own" if server in promise.own else "no"


def _reasons() -> Iterator[str]:
    table = promise_table()
    yield "| promise | server | what is so instead | keys refused there |"
    yield "|---|---|---|---|"
    for name, promise in table.promises.items():
        for server, reason in (promise.own | promise.lacking).items():
            keys = ", ".join(f"`{key}`" for key in promise.keys) if server in promise.lacking else ""
            yield f"| {name} | {table.servers[server]} | {reason} | {keys or '–'} |"
    yield ""


def _tests() -> Iterator[str]:
    yield "| promise | shown by |"
    yield "|---|---|"
    for name, promise in promise_table().promises.items():
        tests = dict.fromkeys(promise.shown.values())
        yield f"| {name} | {'<br>'.join(f'`{test}`' for test in tests)} |"
    yield ""


def _images() -> Iterator[str]:
    yield "## Images\n"
    yield "| image | engine | version | source |"
    yield "|---|---|---|---|"
    for name, image in image_table().images.items():
        yield f"| `{name}` | {image.engine} | {image.engine_version} | {image.source} |"
    yield ""


def _versions() -> Iterator[str]:
    yield "## Versions of vLLM\n"
    yield "Flags that came and went, each beside the version above it. A flag, parser or quantisation that"
    yield "the version in the image lacks is refused with file and line.\n"
    yield "| version | flags | came | went |"
    yield "|---|---|---|---|"
    before: frozenset[str] | None = None
    for version, facts in engine_versions().items():
        names = facts.flags
        came = _names(names - before) if before is not None else "–"
        went = _names(before - names) if before is not None else "–"
        yield f"| {version} | {len(names)} | {came} | {went} |"
        before = names


def _names(names: frozenset[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) or "–"


if __name__ == "__main__":
    print(render(), end="")
