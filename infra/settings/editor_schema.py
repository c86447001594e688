"""Writes docs/settings.schema.json, by which editors complete and check settings files.

`python -m infra.settings.editor_schema > docs/settings.schema.json` renews it. Rules across keys are not in
it: synth checks those.
"""

from __future__ import annotations

import json
from typing import Any

from infra.settings.environment_settings import Settings


def schema() -> dict[str, Any]:
    """JSON schema of one settings file, without `name`: the loader takes that from the file's own name."""
    whole = Settings.model_json_schema()
    whole["properties"].pop("name")
    whole["required"].remove("name")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole}


def render() -> str:
    """The file's text."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(render(), end="")
