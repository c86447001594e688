"""The scenario that all programs go through. Standard library only: every client's environment reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SCENARIO: dict[str, Any] = json.loads(Path(__file__).with_name("scenario.json").read_text(encoding="utf-8"))
