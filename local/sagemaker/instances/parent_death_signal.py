"""Runs a command that dies with its parent: `parent_death_signal.py <parent pid> <command> [arguments]`.

Asks the kernel to send SIGKILL when the parent is gone, then becomes the command. A file of its own because
the request must be made in the child between fork and exec, where a threaded parent may run no Python.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Never returns; a command that cannot be started ends with exit status 127, as in a shell."""
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":  # elsewhere the process table finds what a killed run left
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)  # the parent died before the request was made
    try:
        os.execvp(command[0], command)  # noqa: S606 - the purpose of this file
    except OSError as error:
        sys.exit(f"cannot start {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
