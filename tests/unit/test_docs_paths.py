"""Every path, module and link that the documents name exists in the repository."""

from __future__ import annotations

import functools
import itertools
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def _tracked() -> frozenset[str]:
    """Tracked files and their folders, relative to the root, without a slash at the end."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = listed.stdout.splitlines()
    return frozenset(files) | {str(parent) for file in files for parent in Path(file).parents}


DOCUMENTS = sorted(
    file for file in _tracked() if file.endswith(".md") and not file.startswith("tests/fixtures/")
)
FOLDERS = (
    "settings|infra|contracts|lambdas|model_code|evaluation|operations|local|tests|docs|bench|requirements"
)
PATH = re.compile(rf"`(?:python )?((?:{FOLDERS}|\.ci|\.github)/[^`\s:]*)(?:::[^`]*)?`")
FILE = re.compile(r"[\w./{},*-]*[\w}*]\.(?:py|mjs|asl\.yaml)\b")
MODULE = re.compile(rf"(?<![\w./-])(?:{FOLDERS})(?:\.[A-Za-z_]\w*)+(?![\w/*-])")
LINK = re.compile(r"\]\(([\w./#][^)\s]*)\)")
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
# Names that a changelog calls gone, what CONTRIBUTING's examples add, files inside an artefact or an archive
NOT_IN_THE_TREE = {
    "CHANGELOG.md": {"lambdas.api.forget", "lambdas.authorizer.admin"},
    "CONTRIBUTING.md": {"lambdas/pipeline/guards/credentials.py", "settings.mask_credentials"},
    "docs/refresh.md": {"train.py"},
    "model_code/README.md": {"code/evergreen_hook.py", "/opt/ml/model/code/evergreen_hook.py"},
}


def _text(document: str) -> str:
    """A document without what it says of names that are gone."""
    text = (ROOT / document).read_text()
    if document == "docs/glossary.md":
        text = text.split("\n## Retired words")[0]
        text = re.sub(r"\| [^|\n]+ \|$", "|", text, flags=re.MULTILINE)  # the column "not"
    if document == "CHANGELOG.md":
        text = text.split("\n## [0.1.0]")[0]
    return text


def _expanded(pattern: str) -> list[str]:
    """`a/{b,c}.py` as `a/b.py` and `a/c.py`."""
    parts = [part.split(",") for part in re.split(r"\{([^{}]*)\}", pattern)]
    return ["".join(chosen) for chosen in itertools.product(*parts)]


def _is_tracked(path: str) -> bool:
    path = path.rstrip("/").removesuffix("/…").removesuffix("…")
    if "<" in path or "*" in path:
        form = re.compile(re.sub(r"<[^>]*>|\\\*", "[^/]+", re.escape(path)))
        return any(form.fullmatch(tracked) for tracked in _tracked())
    return path in _tracked()


def _is_end_of_a_tracked_path(path: str) -> bool:
    form = re.compile(r"(.*/)?" + re.escape(re.sub(r"^(\.\.?/)+", "", path)).replace(r"\*", "[^/]+"))
    return any(form.fullmatch(tracked) for tracked in _tracked())


def _is_module_or_name_in_one(dotted: str) -> bool:
    """A package, a module, or a name that a module's source holds."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        folder = "/".join(parts[:end])
        for file in (f"{folder}.py", f"{folder}/__init__.py", folder):
            if file in _tracked():
                path = ROOT / file
                source = path.read_text() if path.is_file() else ""
                return all(re.search(rf"\b{re.escape(name)}\b", source) for name in parts[end:])
    return False


def _anchors(document: Path) -> set[str]:
    """Anchors of the headings, by GitHub's rule."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_exists(document: str) -> None:
    new = NOT_IN_THE_TREE.get(document, set())
    named = {path for found in PATH.findall(_text(document)) for path in _expanded(found)}
    assert not sorted(path for path in named - new if not _is_tracked(path))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_source_file_is_the_end_of_a_path(document: str) -> None:
    new = NOT_IN_THE_TREE.get(document, set())
    named = {path for found in FILE.findall(_text(document)) for path in _expanded(found)}
    assert not sorted(path for path in named - new if not _is_end_of_a_tracked_path(path))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_module_exists(document: str) -> None:
    files = (".yaml", ".py", ".json", ".md", ".txt", ".html")
    new = NOT_IN_THE_TREE.get(document, set())
    named = {name for name in MODULE.findall(_text(document)) if not name.endswith(files)}
    assert not sorted(name for name in named - new if not _is_module_or_name_in_one(name))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document: str) -> None:
    path = ROOT / document
    for target in LINK.findall(CODE.sub("", path.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), f"{target}: there is no such file"
        assert not anchor or anchor in _anchors(linked), f"{target}: there is no such heading"
