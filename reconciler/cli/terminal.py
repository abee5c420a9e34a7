"""What people see: text on standard output and standard error, tables, colours where they are wanted.

Whatever others wrote (containers, policy, git, the manifest) passes through `visible` on its way here.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import ClassVar

from reconciler.log import visible


class OutputClosed(Exception):
    """Whoever read our output has gone: no reason to complain."""


class OutputFailed(Exception):
    """Standard output takes nothing, for the reason given."""


def say(text: str = "") -> None:
    """A line (or lines) on standard output, there when this returns. Raises OutputClosed, OutputFailed."""
    try:
        print(text, flush=True)
    except BrokenPipeError as error:
        raise OutputClosed from error
    except OSError as error:
        raise OutputFailed(error.strerror or str(error)) from error


def note(text: str) -> None:
    """A line on standard error: progress and complaints, so that standard output stays the answer. Never raises."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def text_of(value: object) -> str:
    """Foreign text on one line."""
    return visible(value if isinstance(value, str) else "" if value is None else str(value))


def wants_colour() -> bool:
    """Standard output is a terminal that knows colours, and nobody said NO_COLOR."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and knows_cursor()


def knows_cursor() -> bool:
    """The terminal, by its name, is more than a printer."""
    return os.environ.get("TERM", "") not in ("", "dumb")


class Paint:
    """Colours by what they mean; none at all where nobody wants them."""

    _CODES: ClassVar = {"bold": "1", "dim": "2", "good": "32", "poor": "31", "warned": "33"}

    def __init__(self, on: bool) -> None:
        self._on = on

    def __call__(self, meaning: str, text: str) -> str:
        code = self._CODES.get(meaning)
        return f"\x1b[{code}m{text}\x1b[0m" if self._on and code and text else text

    def bold(self, text: str) -> str:
        return self("bold", text)

    def dim(self, text: str) -> str:
        return self("dim", text)


def width(text: str) -> int:
    """Terminal cells that `text` (visible, not coloured) takes."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, cells: int) -> str:
    """`text` in at most `cells` cells, ending in … where something was left out."""
    if width(text) <= cells:
        return text
    kept = ""
    for character in text:
        if width(kept) + width(character) > cells - 1:
            break
        kept += character
    return kept + "…" if cells > 0 else ""


_PAINT = re.compile("\x1b\\[[0-9]+m")


def cut_painted(text: str, cells: int) -> str:
    """`cut` for a line with colours of ours in it; what is cut loses them."""
    plain = _PAINT.sub("", text)
    return text if width(plain) <= cells else cut(plain, cells)


def table(rows: Sequence[Sequence[str]], cells: int | None = None, drop: Iterable[int] = ()) -> list[str]:
    """Rows, the first of them the heading, in columns; with `cells`, columns in `drop` go first until it fits."""
    columns = list(range(len(rows[0])))
    leaving = list(drop)
    while True:
        widths = [max(width(row[column]) for row in rows) for column in columns]
        if cells is None or sum(widths) + 2 * (len(widths) - 1) <= cells or not leaving:
            break
        columns.remove(leaving.pop(0))
    return [
        "  ".join(
            row[column] + " " * (wide - width(row[column])) for column, wide in zip(columns, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def ago(seconds: float) -> str:
    """A length of time as people say it: 5s, 12m, 3h, 4d."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)}{unit}"
    return f"{max(0, int(seconds))}s"
