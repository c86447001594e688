"""`python -m operations <command>`: what operators run. Each command explains itself with `--help`."""

from __future__ import annotations

import importlib
import sys

COMMANDS = {
    "bootstrap": ("operations.bootstrap", "make an account ready: CDK's bootstrap stack in each region"),
    "preflight": ("operations.preflight", "what a deploy would stumble over, before it does"),
    "model": ("operations.model", "bring a model into the account: checked, described, uploaded"),
    "synth": ("operations.synth", "make the templates, where their sources have changed"),
    "deploy": ("operations.deploy", "deploy an environment: data, model, everything else"),
    "key": ("operations.keys", "make, list and revoke callers' keys"),
    "models": ("operations.models", "show and change the models behind the API, without a deployment"),
    "status": ("operations.status", "show what is deployed, what serves and what is under way"),
    "why": ("operations.why", "say why a deployment or the endpoint failed"),
    "trace": ("operations.trace", "follow one request from the API to the container"),
    "chat": ("operations.chat", "stream one answer from a deployed environment"),
    "releases": ("operations.releases", "list releases, compare versions, go back to an earlier one"),
    "destroy": ("operations.destroy", "delete an environment, and name what is kept"),
    "prove": ("operations.prove", "deploy, exercise, break and delete a disposable environment, on record"),
    "forget": ("operations.forget", "delete what is kept of one user"),
}


def main(words: list[str]) -> int:
    """Runs one command; returns its exit status."""
    if not words or words[0] not in COMMANDS:
        print("usage: python -m operations <command> …\n", file=sys.stderr)
        for name, (_, text) in COMMANDS.items():
            print(f"  {name:10} {text}", file=sys.stderr)
        return 2
    module = importlib.import_module(COMMANDS[words[0]][0])
    return int(module.main(words[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
