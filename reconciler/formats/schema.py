"""JSON Schemas: of each file we read, the one list of its keys, types, ranges and defaults.

Beside the standard's keywords it has two of ours: `x-use` says what to write instead of a wrong value,
`x-strict` marks blocks in which an unknown key is always an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from reconciler import assets
from reconciler.core.desired import Json

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file: its schema's name, and the page that explains it."""

    schema: str
    page: str

    def whole(self) -> Schema:
        """Its schema: not to be changed. `resolved` follows the manifest's references; the others have none left."""
        return whole() if self is MANIFEST else _inlined(self.schema)


MANIFEST = Kind("manifest.schema.json", "docs/manifest.md")
CONFIG = Kind("reconciler.schema.json", "docs/config.md")


@cache
def _loaded(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(assets.read("schema", name))
    return loaded


@cache
def _inlined(name: str) -> Schema:
    found: Schema = _with_definitions(_loaded(name), _loaded(name).get("$defs", {}))
    return found


def _with_definitions(value: Any, definitions: Schema) -> Any:
    """`value` with each reference replaced by what it refers to; keywords beside a reference win."""
    if isinstance(value, list):
        return [_with_definitions(below, definitions) for below in value]
    if not isinstance(value, dict):
        return value
    own = {k: _with_definitions(v, definitions) for k, v in value.items() if k not in ("$ref", "$defs")}
    if "$ref" not in value:
        return own
    return {**_with_definitions(definitions[value["$ref"].removeprefix("#/$defs/")], definitions), **own}


def whole() -> dict[str, Any]:
    """The manifest's schema itself: not to be changed."""
    return _loaded(MANIFEST.schema)


def schema() -> dict[str, Json]:
    """The JSON Schema of the manifest (2020-12): a fresh copy."""
    copy: dict[str, Json] = json.loads(json.dumps(whole()))
    return copy


def part(*path: str) -> Schema:
    """The subschema at `path` in the manifest's, references followed."""
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
