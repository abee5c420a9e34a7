"""Lists of checks, as `validate` and `doctor` print them: a word, what was checked, what was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reconciler.cli.terminal import Paint, say, text_of, wants_colour
from reconciler.log import visible


@dataclass(frozen=True, slots=True)
class Check:
    """`ok` is None where the check could not be made, or where its finding is worth a look but no more."""

    name: str
    ok: bool | None
    detail: str = ""


def of_event(event: Any) -> Check:
    """The check that a `check` event tells of."""
    return Check(str(event.get("name", "")), event.get("ok"), str(event.get("detail") or ""))


def show(check: Check, number: str = "", unsure: str = "WARN") -> None:
    """One check on standard output; further lines of its detail are indented below."""
    meaning, word = {True: ("good", "PASS"), False: ("poor", "FAIL"), None: ("warned", unsure)}[check.ok]
    first, _, rest = visible(check.detail, keep="\n").strip("\n").partition("\n")
    say(f"{Paint(wants_colour())(meaning, word)}  {number}{text_of(check.name)}{': ' if first else ''}{first}")
    for line in rest.splitlines():
        say(f"      {line}")


def as_json(checks: list[Check]) -> dict[str, object]:
    """What `-o json` prints."""
    return {
        "ok": all(check.ok is not False for check in checks),
        "checks": [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in checks],
    }
