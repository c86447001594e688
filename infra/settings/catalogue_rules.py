"""Rules between the entries of `models`, and between them and the rest of the file.

Each check raises RuleError with a path from the file's root. Knows nothing of CDK.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from infra.settings.base import RuleError
from infra.settings.catalogue import AdapterModel, BedrockModel, EndpointModel, HostedModel
from infra.settings.components import ScaleToZeroEndpoint
from infra.settings.endpoint import AnyEndpoint, AsyncEndpoint
from infra.settings.engine import NeuronSettings, VllmSettings
from infra.settings.exclusions import exclusion
from infra.settings.model import Model

FUNCTION_VARIABLES_BYTES = 4_096
OTHER_VARIABLES_BYTES = 1_200
"""Names of tables, buckets and queues, limits, prices: what functions have beside the settings' JSON."""
_RESERVED = {"bootstrap": "the stack of the execution role", "base": "the base model's component"}

_NAMES = exclusion(
    "model-names",
    refuses="two models that answer to one name",
    why="Requests are routed by `model`: a name or an alias belongs to one model.",
    change="another name, or one alias less",
)
_PARTS = exclusion(
    "model-parts",
    refuses="models whose names differ only in what AWS's cannot hold, or one named `bootstrap` or `base`",
    why="Stacks and endpoints are named by letters, digits and dashes of the model's name.",
    change="another name; callers can go on saying the old one where it is an alias",
)
_ASYNC = exclusion(
    "models-async",
    refuses="`models` beside an endpoint of the kind async",
    why="Models are told apart by the HTTP API, and callers of an asynchronous endpoint use S3 instead.",
    change="leave the section out, or another kind of endpoint",
)
_NO_ADAPTERS = exclusion(
    "adapter-engine",
    refuses="an adapter in `models` whose base runs on an engine that takes none",
    why="A compiled Neuron model takes no adapter while it serves, other engines up to max_adapters.",
    change="engine vllm or transformers with max_adapters from 1 upwards",
)
_ADAPTER_SOURCE = exclusion(
    "adapter-source",
    refuses="`source` of an adapter whose base is not of the kind scale_to_zero",
    why="Only inference components load an adapter from S3 by themselves; the containers of other kinds see "
    "nothing but their own artefact.",
    change="leave the key out and put the adapter into the artefact, or endpoint kind scale_to_zero",
)
_ADAPTER_ROOM = exclusion(
    "adapter-places",
    refuses="more adapters on vLLM than max_adapters",
    why="vLLM loads every adapter at its start, and ends where one finds no place.",
    change="a greater max_adapters, or fewer adapters",
)
_BASE_IMAGES = exclusion(
    "base-images",
    refuses="`model.images` with an engine that reads no image parts",
    why="Image parts are passed to vLLM; our handler and Neuron's image read text.",
    change="leave the key out, or engine vllm",
)
_VARIABLES = exclusion(
    "function-variables",
    refuses="models, guards and fallbacks that exceed the 4 kB of a function's variables",
    why="Lambda takes 4,096 bytes of names and values in all.",
    change="fewer models, aliases or guards; hosted models can be entries of the access table instead "
    "(docs/models.md)",
)

Named = EndpointModel | AdapterModel | HostedModel


def check_names(model: Model, of_endpoint: Sequence[str], models: Sequence[Named]) -> None:
    """Every name and alias belongs to one model; `of_endpoint` are those of `endpoint.adapters`."""
    taken = dict.fromkeys((model.name, *model.aliases), "the environment's own model")
    if len(taken) <= len(model.aliases):
        raise _NAMES.refusal("model", "aliases", what="An alias stands here twice.", example=[])
    for name in of_endpoint:
        taken.setdefault(name, "an adapter of section endpoint")
    for place, entry in enumerate(models):
        for key, name in [("name", entry.name), *(("aliases", alias) for alias in entry.aliases)]:
            if owner := taken.get(name):
                raise _NAMES.refusal(
                    "models",
                    str(place),
                    key,
                    what=f"'{name}' is a name of {owner}.",
                    example=[one for one in entry.aliases if one != name]
                    if key == "aliases"
                    else f"{name}-2",
                )
            taken[name] = f"'{entry.name}'"


def check_parts(of_endpoint: Sequence[str], models: Sequence[Named]) -> None:
    """Names of stacks, endpoints and components are distinct."""
    parts = _RESERVED | dict.fromkeys(of_endpoint, "an adapter of section endpoint")
    for place, entry in enumerate(models):
        if not isinstance(entry, EndpointModel | AdapterModel):
            continue
        if other := parts.get(entry.part):
            raise _PARTS.refusal(
                "models",
                str(place),
                "name",
                what=f"'{entry.name}' becomes '{entry.part}', as {other} does.",
                example=f"{entry.part}-2",
            )
        parts[entry.part] = f"'{entry.name}'"


def check_base(model: Model, endpoint: AnyEndpoint, models: Sequence[Named]) -> None:
    """What the environment's own endpoint must be for the entries."""
    if model.images and endpoint.engine.kind != "vllm":
        raise _BASE_IMAGES.refusal(
            "model", "images", what=f"Engine '{endpoint.engine.kind}' reads no images.", example=None
        )
    if models and isinstance(endpoint, AsyncEndpoint):
        raise _ASYNC.refusal("models", what="There is no HTTP API beside kind async.", example=[])
    adapters = [(place, entry) for place, entry in enumerate(models) if isinstance(entry, AdapterModel)]
    if isinstance(endpoint, ScaleToZeroEndpoint):
        if adapters and isinstance(endpoint.engine, NeuronSettings):
            raise _no_adapters(adapters[0][0], "Engine 'neuron' takes no adapters.")
        return
    for place, entry in adapters:
        if isinstance(endpoint.engine, NeuronSettings):
            raise _no_adapters(place, "Engine 'neuron' takes no adapters.")
        if not endpoint.engine.max_adapters:
            raise _no_adapters(place, f"'{entry.name}' finds adapters turned off: max_adapters is 0.")
        if entry.source:
            raise _ADAPTER_SOURCE.refusal(
                "models",
                str(place),
                "source",
                what=f"Kind {endpoint.kind} loads no adapter from {entry.source}.",
                example=None,
            )
    engine = endpoint.engine
    if isinstance(engine, VllmSettings) and len(adapters) > engine.max_adapters:
        raise _ADAPTER_ROOM.refusal(
            "endpoint",
            "engine",
            "max_adapters",
            what=f"{len(adapters)} adapters do not fit into {engine.max_adapters}.",
            example=len(adapters),
        )


def check_hosted(models: Sequence[Named], known_region: Callable[[tuple[str, ...], str], None]) -> None:
    """Regions of hosted models exist."""
    for place, entry in enumerate(models):
        if isinstance(entry, BedrockModel) and entry.region:
            known_region(("models", str(place), "region"), entry.region)


def check_variables(catalogue: int, guards: int, fallbacks: int) -> None:
    """The functions' variables hold what the settings say as JSON, given in bytes."""
    room = FUNCTION_VARIABLES_BYTES - OTHER_VARIABLES_BYTES
    needed = catalogue + guards + fallbacks
    if needed > room:
        raise _VARIABLES.refusal(
            "models",
            what=f"Models take {catalogue} bytes of the functions' variables, guards {guards}, fallbacks "
            f"{fallbacks}: {needed} in all, and there is room for {room}.",
            example=[],
        )


def within(place: int, error: RuleError) -> RuleError:
    """An error about an endpoint's settings, which are an entry's here, with the entry's own path."""
    inner = error.path[1:] if error.path[:1] == ("model",) else error.path
    if error.path[:1] not in (("model",), ("endpoint",)):
        inner = ("name",)
    what = str(error)
    moved = RuleError(
        "models", str(place), *inner, what=what, why="", change=error.change, example=error.example
    )
    moved.args, moved.rule = (what,), error.rule
    return moved


def _no_adapters(place: int, what: str) -> RuleError:
    return _NO_ADAPTERS.refusal("models", str(place), "kind", what=what, example="endpoint")
