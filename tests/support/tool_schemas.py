"""Schemas of tools as applications have them: of pydantic's types, made here, and of Zod's, recorded.

`tests/fixtures/zod_schemas.json` holds what Zod's own `toJSONSchema` wrote for `z.object({value: type})`, in
several dialects; its `made_by` names the version.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import ipaddress
import json
import pathlib
import typing
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    AnyUrl,
    Base64Bytes,
    BaseModel,
    ByteSize,
    ConfigDict,
    Discriminator,
    EmailStr,
    Field,
    HttpUrl,
    Json,
    SecretStr,
    TypeAdapter,
    create_model,
)
from typing_extensions import TypedDict

_ZOD = Path(__file__).parents[1] / "fixtures/zod_schemas.json"


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Address(BaseModel):
    street: str = Field(description="With the number.", examples=["Main St 1"])
    zip_code: str = Field(pattern=r"^\d{5}$", alias="zip")


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    good: bool


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


class Movie(TypedDict, total=False):
    title: str
    year: int


class Point(NamedTuple):
    x: int
    y: float


TYPES: dict[str, Any] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "bytes": bytes,
    "none": None,
    "any": Any,
    "decimal": decimal.Decimal,
    "datetime": datetime.datetime,
    "date": datetime.date,
    "time": datetime.time,
    "timedelta": datetime.timedelta,
    "uuid": uuid.UUID,
    "path": pathlib.Path,
    "url": HttpUrl,
    "any url": AnyUrl,
    "secret": SecretStr,
    "byte size": ByteSize,
    "base64": Base64Bytes,
    "json": Json[dict[str, int]],
    "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
    "network": ipaddress.IPv4Network,
    "pattern": typing.Pattern[str],
    "complex": complex,
    "list": list[int],
    "list of any": list,
    "set": set[str],
    "frozenset": frozenset[int],
    "dict": dict[str, int],
    "dict of any": dict,
    "dict by int": dict[int, str],
    "mapping": Mapping[str, Address],
    "tuple": tuple[int, str],
    "open tuple": tuple[int, ...],
    "sequence": Sequence[str],
    "optional": int | None,
    "union": int | str | None,
    "literal": Literal["a", 1, None],
    "enum": Colour,
    "int enum": Level,
    "enum keys": dict[Colour, int],
    "model": Address,
    "models": list[Address],
    "closed": Closed,
    "open": Open,
    "tree": Tree,
    "movie": Movie,
    "point": Point,
    "choice of models": Cat | Dog,
    "told apart": Annotated[Cat | Dog, Discriminator("kind")],
    "multiple of": Annotated[int, Field(multiple_of=5)],
    "cents": Annotated[float, Field(multiple_of=0.01)],
    "positive": Annotated[int, Field(gt=0)],
    "between": Annotated[float, Field(ge=-1, lt=1)],
    "percent": Annotated[int, Field(ge=0, le=100)],
    "huge": Annotated[int, Field(le=10**30)],
    "short": Annotated[str, Field(max_length=5)],
    "long": Annotated[str, Field(max_length=4000)],
    "code": Annotated[str, Field(pattern="^a+$", max_length=5)],
    "looks ahead": Annotated[str, Field(json_schema_extra={"pattern": "^(?=.*\\d).{8,}$"})],
    "some": Annotated[list[int], Field(min_length=1, max_length=3)],
    "many": Annotated[list[str], Field(max_length=5000)],
    "noted": Annotated[str, Field(title="T", examples=["e"], json_schema_extra={"x-ui": "text"})],
    "deep": dict[str, list[dict[str, list[Address | None]]]],
}


def pydantic_schemas() -> dict[str, dict[str, Any]]:
    """The schema of a model with one field of each type, required and optional in turns."""
    schemas = {}
    for number, (name, kind) in enumerate(TYPES.items()):
        if name == "complex" or kind is EmailStr:
            continue
        default: Any = ... if number % 2 else None
        model = create_model("Arguments", value=(kind if number % 2 else kind | None, default))
        schemas[f"pydantic {name}"] = TypeAdapter(model).json_schema()
    return schemas


def zod_schemas() -> dict[str, dict[str, Any]]:
    """What Zod wrote."""
    recorded = json.loads(_ZOD.read_text(encoding="utf-8"))
    return {f"zod {name}": schema for name, schema in recorded["schemas"].items()}


ALL: dict[str, dict[str, Any]] = {**pydantic_schemas(), **zod_schemas()}
