"""The program that runs for a container image. On a laptop there is no container runtime: the repository's
name says what runs, the tag is not read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_IMAGE = re.compile(r"^(?:(?P<registry>[^/]+\.[^/]+)/)?(?P<repository>[^:@]+)(?:[:@].+)?$")


class ImageNotFoundError(Exception):
    """No program runs for this image."""


@dataclass(frozen=True)
class Program:
    """What runs for an image: the command line, the folder that it starts in, and variables that a
    process on a shared machine needs and a container does not."""

    command: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ProgramTable:
    """Programs by repository name."""

    programs: Mapping[str, Program]

    def resolve(self, image: str) -> Program:
        """The program of an image URI `<registry>/<repository>:<tag>`; raises ImageNotFoundError."""
        match = _IMAGE.match(image)
        program = self.programs.get(match["repository"]) if match else None
        if program is None:
            raise ImageNotFoundError(
                f'CannotPullContainerError: image "{image}" not found. '
                f"The laptop cloud runs these repositories: {', '.join(sorted(self.programs))}."
            )
        return program


def default_programs(venvs: Path, repository_root: Path) -> ProgramTable:
    """The images that Evergreen's own settings name."""
    python = str(venvs / "serving" / "bin" / "python")
    serving = (python, "-m", "model_code.serving")
    # A container is shielded by its port mapping; a process by the loopback interface.
    loopback = {"EVERGREEN_HOST": "127.0.0.1"}
    return ProgramTable(
        {
            "evergreen-serving": Program(serving, repository_root, loopback),
            # Training and serving need the same libraries, and the laptop has the disk for them once.
            "evergreen-training": Program((python,), repository_root),
        }
    )
