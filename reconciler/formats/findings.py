"""What was found in a file: problems that stop it, warnings that do not, each with its place.

Also how values are shown in messages: short, on one line, and never able to steer a terminal.
"""

from __future__ import annotations

import json
import re
from typing import Protocol

from reconciler.core.errors import Problem

MOST = 100
LONGEST = 60


class Placed(Protocol):
    """Anything with a place in the file."""

    @property
    def line(self) -> int: ...

    @property
    def column(self) -> int: ...


class Findings:
    """Collects what is wrong with `file`; at most MOST of each kind, then one line that says how many more."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._problems: dict[Problem, None] = {}
        self._warnings: dict[Problem, None] = {}

    def problem(self, where: Placed | tuple[int, int] | None, message: str) -> None:
        """Note what makes the file unusable."""
        self._problems[self._found(where, message)] = None

    def warning(self, where: Placed | tuple[int, int] | None, message: str) -> None:
        """Note what an operator should know."""
        self._warnings[self._found(where, message)] = None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """In file order."""
        return self._first(self._problems)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """In file order."""
        return self._first(self._warnings)

    @property
    def is_full(self) -> bool:
        """There is no point in looking for more problems."""
        return len(self._problems) >= MOST

    def _found(self, where: Placed | tuple[int, int] | None, message: str) -> Problem:
        if not message.isprintable():
            message = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in message)
        if where is None:
            return Problem(self.file, 0, 0, message)
        line, column = where if isinstance(where, tuple) else (where.line, where.column)
        return Problem(self.file, line, column, message)

    def _first(self, found: dict[Problem, None]) -> tuple[Problem, ...]:
        ordered = sorted(found)
        if len(ordered) <= MOST:
            return tuple(ordered)
        rest = Problem(self.file, 0, 0, f"{len(ordered) - MOST} more like these are not shown.")
        return (rest, *ordered[:MOST])


_PRIVATE = re.compile(r"\.env(?:ironment)?(?!\.(?:MODE|mode|APP_VERSION|APP_PORT)$)(?:[.\[]|$)")


def is_private(path: str) -> bool:
    """What stands at this path is never shown: the values of environment variables are often secrets."""
    return _PRIVATE.search(path) is not None


def shown_text(text: str) -> str:
    """`text` in double quotes, escaped and cut."""
    cut = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return json.dumps(cut, ensure_ascii=not _is_plain(cut))


def shown_key(key: str) -> str:
    """A key as it is written where it is an ordinary word, else quoted, escaped and cut."""
    ordinary = key.isascii() and key.replace("_", "").replace("-", "").isalnum() and len(key) <= LONGEST
    return key if ordinary else shown_text(key)


def shown(value: object) -> str:
    """Any value of the manifest, on one line."""
    if isinstance(value, str):
        return shown_text(value)
    text = json.dumps(value, ensure_ascii=False, default=str)
    text = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return text if _is_plain(text) else text.encode("ascii", "backslashreplace").decode("ascii")


def _is_plain(text: str) -> bool:
    """Printable Latin letters and punctuation only: nothing that could look like something else."""
    return all(character.isascii() or character in "…äöüÄÖÜßéèàçñ" for character in text) and text.isprintable()
