"""The refresh loop's state machine: infra/state_machines/refresh.asl.yaml, its names put in on deployment."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import yaml

DEFINITION_FILE = Path(__file__).parents[1] / "state_machines" / "refresh.asl.yaml"
# The functions' own limits; their states in the definition wait half a minute longer.
ANALYSIS_SECONDS, RELEASE_SECONDS = 120, 300


@cache
def definition() -> str:
    """The definition as JSON, which CloudFormation asks for; `${…}` are its substitutions."""
    return json.dumps(yaml.safe_load(DEFINITION_FILE.read_text()))
