"""`python -m local.model --home DIR [--tiny | --embedding | --tiny-embedding]` prepares a model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from local.model.prepare import EMBEDDING_NAME, NAME, TINY_EMBEDDING_NAME, TINY_NAME, prepare
from local.model.progress import say
from local.model.source import SourceError


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 with the JSON line on stdout, or 1 with one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m local.model", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the folder the laptop cloud owns")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--tiny",
        dest="name",
        action="store_const",
        const=TINY_NAME,
        help="two random layers instead of the real weights",
    )
    which.add_argument(
        "--embedding",
        dest="name",
        action="store_const",
        const=EMBEDDING_NAME,
        help="a model of sentence embeddings instead of the chat model",
    )
    which.add_argument(
        "--tiny-embedding",
        dest="name",
        action="store_const",
        const=TINY_EMBEDDING_NAME,
        help="the same with two random layers",
    )
    parser.add_argument(
        "--full", action="store_true", help="verify an existing artefact by content, not by size"
    )
    options = parser.parse_args(arguments)
    try:
        prepared = prepare(options.home, name=options.name or NAME, full=options.full)
    except (SourceError, OSError) as error:
        say(f"failed: {error}")
        return 1
    print(prepared.model_dump_json(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
