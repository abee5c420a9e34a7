"""Environment values in a Compose file: gone, and still seen to change."""

from __future__ import annotations

import json
import secrets

import pytest

from reconciler.formats.redaction import Marks, without_values
from tests.security.rendering import files_of, read, tree

pytestmark = pytest.mark.control("K15")
MARKS = Marks(b"k" * 16)
VALUES = ("hunter2", "", " ", "a: b", "x\ny", "- A=1", "'quoted'", '"', "# no comment", "{a: b}", "$$x", "é✓", "true")


def rendered(environment: dict[str, str]) -> str:
    reading = read(tree(("services.environment", environment)))
    assert reading.desired, reading.problems
    return files_of(reading.desired)["docker-compose.yml"]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", ["PASSWORD", "x-name", "A.B"])
def test_no_value_of_what_we_render_is_left(name: str, value: str) -> None:
    secret = f"{value}{secrets.token_hex(8)}{value}"
    text = rendered({name: secret})
    kept = without_values(text, MARKS)
    assert secret[-8 - len(value) :][:8] not in kept
    assert json.dumps(secret)[1:-1] not in kept
    assert name in kept
    assert kept.count("\n") == text.count("\n")


def test_all_else_stays_as_it_is() -> None:
    text = rendered({"A": "b"})
    kept = without_values(text, MARKS)
    changed = [line for line, other in zip(text.split("\n"), kept.split("\n"), strict=True) if line != other]
    assert changed == ["      A: b"]
    assert 'APP_VERSION: "1.0.0"' in kept


def test_equal_values_have_equal_marks_and_others_others() -> None:
    one, same, other = (without_values(rendered({"A": value}), MARKS) for value in ("x1", "x1", "x2"))
    assert one == same != other
    assert without_values(rendered({"A": "x1"}), Marks(b"j" * 16)) != one, "a mark can be found by trying words"


@pytest.mark.parametrize(
    "text",
    [
        "    environment: {A: hunter2}\n    user: x",
        "    environment:\n      A: |\n        hunter2\n\n        hunter2\n    user: x",
        "    environment:\n    - A=hunter2\n    - 'B=hunter2'\n    user: x",
        "    environment:\n      ? A\n      : hunter2\n    user: x",
        "    'environment' :\n      \"A\": hunter2\n    user: x",
        "    environment:\n      A: >-\n        hunter2: hunter2\n    user: x",
    ],
)
def test_a_file_that_was_edited_is_hidden_too(text: str) -> None:
    kept = without_values(text, MARKS)
    assert "hunter2" not in kept
    assert kept.endswith("    user: x")
