"""The variables that every container has: paths, region, credentials of its role. Nothing of the
emulator's own environment is among them."""

from __future__ import annotations

import os
from pathlib import Path

from local.sagemaker.instances.images import Program
from local.sagemaker.ports import RoleCredentials
from local.sagemaker.store import Identity

_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


def container_environment(
    program: Program, home: Path, identity: Identity, endpoint_url: str, credentials: RoleCredentials
) -> dict[str, str]:
    """Variables of a process that stands for a container. `home` is an existing folder of its own; the
    program's interpreter comes first on the path."""
    return {
        **program.environment,
        "PATH": os.pathsep.join((str(Path(program.command[0]).parent), _SYSTEM_PATH)),
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONUNBUFFERED": "1",
        "AWS_REGION": identity.region,
        "AWS_DEFAULT_REGION": identity.region,
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_ACCESS_KEY_ID": credentials.access_key_id,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_access_key,
        "AWS_SESSION_TOKEN": credentials.session_token,
    }
