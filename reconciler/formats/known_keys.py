"""Keys that the schema does not know: an error where another was meant, a warning elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler.formats.findings import Findings, shown_key
from reconciler.formats.schema import MANIFEST, Schema, resolved
from reconciler.formats.yaml_strict import Node

CLOSE = 2
MOST_UNKNOWN = 30


def drop_unknown(node: Node, schema: Schema, findings: Findings, page: str = MANIFEST.page) -> None:
    """Remove the keys that `schema` does not know: an error where one is meant, a warning elsewhere.

    `page` explains those that exist.
    """
    schema = _branch(node, resolved(schema))
    _cut(node, schema, findings)
    for item in node.items:
        drop_unknown(item, schema.get("items", {}), findings, page)
    known = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    unknown = [key for key in node.mapping if key not in known]
    for key in [key for key in unknown if key.startswith("x-")]:
        if schema.get("patternProperties"):
            del node.mapping[key]
            unknown.remove(key)
    if others is False:
        _complain(node, unknown, schema, findings, page)
    elif known:
        _misspelt_domains(node, unknown, known, findings)
    for key, value in node.mapping.items():
        below = known.get(key) or (others if isinstance(others, Mapping) else None)
        if below:
            drop_unknown(value, below, findings, page)


def _cut(node: Node, schema: Schema, findings: Findings) -> None:
    """No more entries than the schema allows: telling what is wrong with each of 9000 takes seconds."""
    count = len(node.mapping) + len(node.items)
    most = schema.get("maxProperties", schema.get("maxItems", count))
    if count <= most:
        return
    findings.problem(node, f"{node.path} has {count} entries. At most {most} are allowed.")
    if isinstance(node.value, list):
        del node.value[most:]
    for key in list(node.mapping)[most:]:
        del node.mapping[key]


def _branch(node: Node, schema: Schema) -> Schema:
    """The branch of an `anyOf` or `if` that a node of this kind means."""
    if "if" in schema and "then" in schema:
        single = all(key in node.mapping for key in schema["if"].get("required", ()))
        return resolved(schema["then"] if single else schema["else"])
    for branch in map(resolved, schema.get("anyOf", ())):
        if node.mapping and branch.get("type") == "object":
            return branch
        if node.items and branch.get("type") == "array":
            return branch
    return schema


def _complain(node: Node, unknown: Sequence[str], schema: Schema, findings: Findings, page: str) -> None:
    known = schema.get("properties", {})
    for key in unknown[:MOST_UNKNOWN]:
        path = f"{node.path}.{shown_key(key)}" if node.path else shown_key(key)
        place = node.keys.get(key, node)
        meant = closest(key, known)
        if meant:
            findings.problem(place, f"{path} is no key. Did you mean {meant}?")
        elif schema.get("x-strict"):
            findings.problem(place, f"{path} is no key. Use one of {', '.join(sorted(known))}.")
        else:
            findings.warning(place, f"{path} has no effect: there is no such key.")
    if len(unknown) > MOST_UNKNOWN:
        findings.problem(node, f"{len(unknown)} unknown keys here. See {page} for those that exist.")
    for key in unknown:
        del node.mapping[key]


def _misspelt_domains(node: Node, unknown: Sequence[str], known: Schema, findings: Findings) -> None:
    for key in unknown[:MOST_UNKNOWN]:
        if meant := closest(key, known):
            path = f"{node.path}.{shown_key(key)}"
            findings.problem(node.keys.get(key, node), f"{path} is no domain of ours. Did you mean {meant}?")
            del node.mapping[key]


def closest(key: str, known: Mapping[str, object]) -> str:
    """The known key at most CLOSE edits away from `key`, or an empty text; the first in order when several are."""
    near = [(distance, name) for name in known if (distance := edits(key.lower(), name)) <= CLOSE]
    return min(near)[1] if near else ""


def edits(left: str, right: str) -> int:
    """Insertions, deletions and replacements that make `left` of `right`; CLOSE + 1 stands for more."""
    if abs(len(left) - len(right)) > CLOSE:
        return CLOSE + 1
    row = list(range(len(right) + 1))
    for i, character in enumerate(left, 1):
        above, row[0] = row[0], i
        for j, other in enumerate(right, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (character != other))
        if min(row) > CLOSE:
            return CLOSE + 1
    return min(row[-1], CLOSE + 1)
