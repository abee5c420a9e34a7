"""The manifest's JSON Schema: the one list of its keys, types, ranges and defaults.

Beside the standard's keywords it has two of ours: `x-use` says what to write instead of a wrong value,
`x-strict` marks blocks in which an unknown key is always an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from reconciler import assets
from reconciler.core.desired import Json

Schema = Mapping[str, Any]


@cache
def whole() -> dict[str, Any]:
    """The schema itself: not to be changed."""
    loaded: dict[str, Any] = json.loads(assets.read("schema", "manifest.schema.json"))
    return loaded


def schema() -> dict[str, Json]:
    """The JSON Schema of the manifest (2020-12): a fresh copy."""
    copy: dict[str, Json] = json.loads(json.dumps(whole()))
    return copy


def part(*path: str) -> Schema:
    """The subschema at `path` in the whole one, references followed."""
    found: Any = whole()
    for step in path:
        found = resolved(found)[step]
    return resolved(found)


def resolved(found: Schema) -> Schema:
    """`found` with what it refers to; keywords beside the reference win."""
    if "$ref" not in found:
        return found
    name = found["$ref"].removeprefix("#/$defs/")
    return {**resolved(whole()["$defs"][name]), **{k: v for k, v in found.items() if k != "$ref"}}
