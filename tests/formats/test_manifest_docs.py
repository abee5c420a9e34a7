"""docs/manifest.md: its tables are made from the schema and the code, and its examples work.

`python tests/formats/test_manifest_docs.py` writes the tables anew.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from reconciler.formats import compose_keys, manifest, schema, spelling_table, structure

PAGE = Path(__file__).resolve().parents[2] / "docs" / "manifest.md"
SCHEMA: Any = manifest.schema()


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in lines)


def key_table() -> str:
    return table(("key", "what it is", "type", "default"), list(rows(SCHEMA, "")))


def rows(mapping: Any, path: str) -> Iterator[tuple[str, ...]]:
    required = [*mapping.get("required", []), *mapping.get("else", {}).get("required", [])]
    for name, raw in mapping.get("properties", {}).items():
        key = schema.resolved(raw)
        here = f"{path}.{name}" if path else name
        below = list(deeper(key, here))
        if not below or "default" in key or path + name == "volumes" or "Comes later" in key["description"]:
            default = "required" if name in required and not below else shown(key)
            yield f"`{here}`", key["description"], kind(key), default
        yield from below


def deeper(key: Any, path: str) -> Iterator[tuple[str, ...]]:
    """What stands below a key: its own keys, those of its items, or of the branch that is a mapping."""
    if path == "services":
        yield from rows(schema.part("$defs", "service"), path)
        return
    yield from rows(key, path)
    for branch in [key.get("then"), *key.get("anyOf", [])]:
        if branch and schema.resolved(branch).get("properties"):
            yield from rows(schema.resolved(branch), path)
    items = schema.resolved(key["items"]) if isinstance(key.get("items"), dict) else {}
    for branch in [items, *map(schema.resolved, items.get("anyOf", []))]:
        yield from rows(branch, f"{path}[]")
    others = key.get("additionalProperties")
    if isinstance(others, dict) and path == "volumes":
        for branch in map(schema.resolved, schema.resolved(others)["anyOf"]):
            yield from rows(branch, f"{path}.*")


def kind(key: Any) -> str:
    return str(key.get("x-use", "a mapping")).replace("\\", "")


def shown(key: Any) -> str:
    if "default" not in key:
        return "–"
    value = key["default"]
    return f"`{structure.flow(value)}`" if not isinstance(value, str) else f"`{value}`"


def other_words() -> str:
    moved = [(f"`{old}`", f"`{new}`") for old, new in spelling_table.RENAMED]
    limits = [
        (f"`policy.{at}.{old}`", f"`policy.{at}.{new}`" + by(factor)) for at, old, new, factor in spelling_table.LIMITS
    ]
    nothing = [(f"`{path}`", f"no effect: {why}") for path, why in spelling_table.IGNORED]
    return table(("written", "read as"), moved + limits + nothing)


def by(factor: Any) -> str:
    return "" if factor == 1 else f" (times {factor})"


def reasons(keys: dict[str, str], prefix: str = "") -> str:
    return table(("key", "why, and what instead"), [(f"`{prefix}{key}`", why + ".") for key, why in keys.items()])


TABLES = {
    "keys": key_table,
    "spellings": other_words,
    "refused": lambda: reasons(compose_keys.REFUSED),
    "ignored": lambda: reasons(compose_keys.IGNORED | compose_keys.IGNORED_BELOW),
}


def written(page: str) -> str:
    for name, make in TABLES.items():
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        before, rest = page.split(begin)
        page = before + begin + make() + end + rest.split(end, 1)[1]
    return page


def test_the_tables_are_what_the_code_says() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page), "run: python tests/formats/test_manifest_docs.py"


def test_every_key_of_the_schema_is_in_the_table() -> None:
    page = key_table()
    for definition in (
        "service",
        "healthcheck",
        "rollout",
        "route",
        "metrics",
        "infrastructure",
        "canary",
        "admission",
        "window",
    ):
        for name in SCHEMA["$defs"][definition]["properties"]:
            assert f".{name}`" in page or f".{name}." in page, name
    assert "`services.rollout.steps[].weight`" in page
    assert "`nginx.proxy_timeout`" in page


EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_every_example_works_as_it_stands(example: str) -> None:
    reading = manifest.read(example.encode(), env_files={"app.env": ""})
    assert (reading.problems, reading.warnings) == ((), ())
    jsonschema.Draft202012Validator(SCHEMA).validate(yaml.safe_load(example))


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 5
    assert json.dumps(yaml.safe_load(EXAMPLES[0])).count('": ') == 9


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.exit(0)
