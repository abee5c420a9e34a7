"""docs/config.md: its table is made from the schema, and its examples work.

`python tests/formats/test_config_docs.py` writes the table anew.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from reconciler.core.git_config import GitConfig, WriteBack
from reconciler.formats import daemon_config, structure
from reconciler.formats.schema import CONFIG
from reconciler.formats.webhook import HookKind

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "config.md"
RAW: dict[str, Any] = json.loads((ROOT / "schema" / "reconciler.schema.json").read_text(encoding="utf-8"))
SCHEMA: Any = CONFIG.whole()
BEGIN, END = "<!-- keys: begin -->\n", "<!-- keys: end -->"


def rows(mapping: Any, path: str = "") -> Iterator[tuple[str, ...]]:
    for name, key in mapping["properties"].items():
        here = f"{path}.{name}" if path else name
        if "properties" in key:
            yield from rows(key, here)
            continue
        default = "required" if name in mapping.get("required", []) else shown(key)
        yield f"`{here}`", key["description"], key["x-use"], default


def shown(key: Any) -> str:
    return f"`{structure.flow(key['default'])}`" if "default" in key else "–"


def written(page: str) -> str:
    lines = [("key", "what it is", "type", "default"), ("---",) * 4, *rows(SCHEMA)]
    table = "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
    before, rest = page.split(BEGIN)
    return before + BEGIN + table + END + rest.split(END, 1)[1]


def keys(mapping: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, below in mapping.get("properties", {}).items():
        yield f"{path}.{name}", below
        yield from keys(below, f"{path}.{name}")


ALL_KEYS = list(keys(SCHEMA))


def test_the_table_is_what_the_schema_says() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page), "run: python tests/formats/test_config_docs.py"


def test_it_is_a_valid_schema_of_2020_12() -> None:
    jsonschema.Draft202012Validator.check_schema(RAW)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert "$ref" not in json.dumps(SCHEMA)


@pytest.mark.parametrize(("path", "key"), ALL_KEYS, ids=[path for path, _ in ALL_KEYS])
def test_every_key_helps_in_an_editor(path: str, key: dict[str, Any]) -> None:
    assert key["title"]
    assert key["description"].endswith(".")
    assert key["x-use"]
    for example in [*key["examples"], *([key["default"]] if "default" in key else [])]:
        errors = list(jsonschema.Draft202012Validator(key).iter_errors(example))
        assert not errors, (path, example)


def test_the_defaults_are_those_of_the_values() -> None:
    def of(*path: str) -> Any:
        found: Any = SCHEMA
        for step in path:
            found = found["properties"][step]
        return found["default"]

    def value(kind: Any, name: str) -> Any:
        return next(each.default for each in dataclasses.fields(kind) if each.name == name)

    for key, name in (("path", "path"), ("poll", "poll_s"), ("timeout", "timeout_s"), ("allow_rewind", "allow_rewind")):
        assert of("source", "git", key) == value(GitConfig, name)
    assert of("source", "git", "signatures") == value(GitConfig, "signatures")
    assert (of("source", "git", "max_size"), value(GitConfig, "max_bytes")) == ("1g", 2**30)
    for key in ("signing_format", "attempts"):
        assert of("source", "git", "write_back", key) == value(WriteBack, key)
    hook = daemon_config.WebhookConfig("/x")
    assert of("webhook", "listen") == f"{hook.host}:{hook.port}"
    assert (of("webhook", "path"), of("webhook", "kind")) == (hook.path, hook.kind)
    assert SCHEMA["properties"]["webhook"]["properties"]["kind"]["enum"] == list(HookKind)


EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_every_example_works_as_it_stands(example: str) -> None:
    reading = daemon_config.read(example.encode())
    assert (reading.problems, reading.warnings) == ((), ())
    jsonschema.Draft202012Validator(RAW).validate(yaml.safe_load(example))


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 2


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.exit(0)
