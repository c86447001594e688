"""Runs the fine-tuning job and sends it a signal after a given step. Run by the serving environment.

    python -m tests.support.interrupted_training SIGTERM 7 --epochs 4 ...

A signal sent from outside would hit a step that depends on the machine's speed.
"""

from __future__ import annotations

import os
import signal
import sys

from model_code.training import finetune, loop


def main() -> int:
    """The job's own exit code, unless the signal ends the process."""
    chosen, at_step = signal.Signals[sys.argv[1]], int(sys.argv[2])
    emit = loop.emit

    def emit_then_signal(name: str, value: float, step: int) -> None:
        emit(name, value, step)
        if name == "train:learning_rate" and step == at_step:
            os.kill(os.getpid(), chosen)

    loop.emit = emit_then_signal
    return finetune.main(sys.argv[3:])


if __name__ == "__main__":
    sys.exit(main())
