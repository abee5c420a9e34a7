"""The shape of a file: checked against the JSON Schema, told in our own words, with places."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from reconciler.core.desired import Json
from reconciler.formats.findings import Findings, is_private, shown, shown_key
from reconciler.formats.schema import MANIFEST, Kind, Schema, part, resolved
from reconciler.formats.yaml_strict import Node

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator, ValidationError

MOST_ERRORS = 200


@cache
def _validator(kind: Kind) -> Draft202012Validator:
    """jsonschema's validator, loaded on first use: it costs 100 ms and 8 MB where nothing else needs its parts.

    Stricter in two places: 3.0 is no whole number, and `$` does not match before a final line break.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    checker = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    strict: Any = extend(Draft202012Validator, type_checker=checker)  # type: ignore[no-untyped-call]
    return strict(_anchored(kind.whole()))  # type: ignore[no-any-return]


def _anchored(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: below[:-1] + r"\Z" if key == "pattern" and isinstance(below, str) else _anchored(below)
            for key, below in value.items()
        }
    return [_anchored(below) for below in value] if isinstance(value, list) else value


def check(root: Node, findings: Findings, kind: Kind = MANIFEST) -> None:
    """Note what has the wrong shape and take it out of the tree, so that the rest can still be read."""
    wrong: list[tuple[Any, ...]] = []
    for error in chain.from_iterable(map(_telling, islice(_validator(kind).iter_errors(root.plain()), MOST_ERRORS))):
        path: tuple[Any, ...] = tuple(error.absolute_path)
        node = _at(root, path)
        for message in _told(node, error, kind):
            findings.problem(node.keys.get(str(error.instance), node) if _is_name(error) else node, message)
        if _is_name(error):
            path = (*path, error.instance)
        if error.validator != "required" and path:
            wrong.append(path)
    for path in sorted(wrong, key=_depth, reverse=True):
        _remove(root, path)


def _depth(path: Sequence[str | int]) -> tuple[int, int]:
    """Sorts what is taken out: deepest first, and a list from its end, so that nothing else moves."""
    last = path[-1]
    return len(path), last if isinstance(last, int) else -1


def _telling(error: ValidationError) -> Iterator[ValidationError]:
    """The errors worth telling: inside the branch of an `anyOf` that was meant, else the error itself."""
    deeper = [inner for inner in error.context or () if inner.absolute_path != error.absolute_path]
    if not deeper:
        inside = [inner for inner in error.context or () if inner.validator == "required" or _is_name(inner)]
        yield from inside or [error]
        return
    for inner in deeper:
        yield from _telling(inner)


def _is_name(error: ValidationError) -> bool:
    return "propertyNames" in tuple(error.absolute_schema_path)


def _told(node: Node, error: ValidationError, kind: Kind) -> Iterator[str]:
    """The error in our words; several for several keys that are missing."""
    if _is_name(error):
        yield f"{_path(node)}{shown_key(str(error.instance))} cannot be a name here. Use {_use(error, kind)}."
    elif error.validator == "required":
        wanted: Any = error.validator_value
        yield from (_missing(node, key, _example(error, key, kind)) for key in wanted if node.at(key) is None)
    else:
        text = error.validator == "type" and error.validator_value == "string"
        yield complaint(node, _use(error, kind), text=text)


def _path(node: Node) -> str:
    return f"{node.path}." if node.path else ""


def _missing(node: Node, key: str, example: Json) -> str:
    hint = f"Add it, for example {key}: {flow(example)}." if example is not None else "Add it."
    return f"{_path(node)}{key} is missing. {hint}"


def _example(error: ValidationError, key: str, kind: Kind) -> Json:
    """The first example that the schema has for `key`, beside the failed keyword or further out."""
    for at in _outwards(error, kind):
        if key in (known := at.get("properties", {})) and (examples := resolved(known[key]).get("examples")):
            return examples[0]  # type: ignore[no-any-return]
    return None


def flow(value: Json) -> str:
    """YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(below)}" for key, below in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    return value if isinstance(value, str) else json.dumps(value)


def complaint(node: Node, use: str, *, text: bool = False) -> str:
    """What is wrong with `node` and what to write instead; `text`: nothing but a text would do."""
    name = node.path or "the manifest"
    match node.value:
        case None:
            return f"{name} has no value. Use {use}, or remove the line."
        case str() | dict() | list() if not node.value:
            return f"{name} is empty. Use {use}."
        case dict():
            return f"{name} is a mapping. Use {use}."
        case list():
            return f"{name} is a list. Use {use}."
        case bool():
            return f"{name} is {node.text}. Use {use}."
        case int() | float():
            wanted = f'Put it in quotes if that is the text meant: "{node.text}".' if text else f"Use {use}."
            return f"{name} is the number {node.text}. {wanted}" if text else f"{name} is {node.text}. {wanted}"
        case str() if is_private(name):
            return f"{name} cannot be used. Use {use}."
        case str() as value:
            return f"{name} is {shown(value)}. {_hint(value, use)}"


def _hint(value: str, use: str) -> str:
    if "whole number" in use and (pair := re.fullmatch(r"[0-9]{1,5}:([0-9]{1,5})", value)):
        return f"Write the container's port alone, {pair[1]}: nginx.port is the one that is published."
    if "number" in use and re.fullmatch(r"-?[0-9]{1,18}(?:\.[0-9]{1,17})?", value):
        return f"Use {use}, without quotes."
    return f"Use {use}."


def _use(error: ValidationError, kind: Kind) -> str:
    """The nearest `x-use` from the failed keyword outwards."""
    return next((str(at["x-use"]) for at in _outwards(error, kind) if "x-use" in at), f"what {kind.page} says")


def _outwards(error: ValidationError, kind: Kind) -> Iterator[Schema]:
    """The subschema that failed, then those around it."""
    at: Any = error
    while at is not None:
        if isinstance(at.schema, Mapping):
            yield at.schema
        at = at.parent
    yield kind.whole()
    if kind is MANIFEST:
        yield part("$defs", "service")


def _at(root: Node, path: Sequence[str | int]) -> Node:
    node = root
    for step in path:
        node = node.items[step] if isinstance(step, int) else node.mapping[step]
    return node


def _remove(root: Node, path: Sequence[Any]) -> None:
    """Take the node at `path` out of its parent; already gone is fine."""
    if not path:
        return
    try:
        parent = _at(root, path[:-1])
        parent.value.pop(path[-1])  # type: ignore[union-attr]
    except (KeyError, IndexError):
        return
