"""Where the laptop cloud of this checkout is: its address, as `make up` or the running process wrote it.

The laptop cloud starts operator commands with AWS_ENDPOINT_URL and credentials set; commands that a person
types find the same address in the cloud's own files. Knows nothing of how it works.
"""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from operations.progress import CommandError

REPOSITORY = Path(__file__).resolve().parent.parent
ACCOUNT = "123456789012"
"""The emulator takes the account's id as the access key of its root user."""
SECRET = "laptop"  # noqa: S105 - guards nothing outside this machine
_DEFAULT_PORT = 4566


def home(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder that holds the laptop cloud's state."""
    return Path(environment.get("EVERGREEN_HOME", REPOSITORY / ".evergreen")).resolve()


def connection(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """AWS's environment variables for the running laptop cloud, without the region.

    Raises CommandError where none of this checkout runs.
    """
    given = environment.get("AWS_ENDPOINT_URL")
    if given:
        url = given
    else:
        url = f"http://127.0.0.1:{_port(environment)}"
        _require_running(url, home(environment))
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": ACCOUNT,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _port(environment: Mapping[str, str]) -> int:
    """The running process's own port, whichever `make` was told."""
    try:
        return int(json.loads((home(environment) / "cloud" / "cloud.pid").read_text())["port"])
    except (OSError, ValueError, KeyError):
        return int(environment.get("EVERGREEN_PORT", _DEFAULT_PORT))


def _require_running(url: str, folder: Path) -> None:
    try:
        with urllib.request.urlopen(f"{url}/_evergreen/health", timeout=5) as reply:  # noqa: S310
            found: dict[str, Any] = json.load(reply)
    except (OSError, ValueError):
        raise CommandError(
            f"The laptop cloud of {folder} does not run: start it with `make cloud` (empty) or `make up`."
        ) from None
    if found.get("home") != str(folder):
        raise CommandError(
            f"{url} is the laptop cloud of {found.get('home')}, not of {folder}: start this one with "
            "`make cloud PORT=<another port>`."
        )
