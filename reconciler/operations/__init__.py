"""What an operator can ask for, the same with and without a daemon.

A request is answered by events, the last of which is `end`. `reconciler.control` carries both over the
control socket; without a daemon the command line runs them in its own process, holding the lock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from reconciler.core.errors import Refused

if TYPE_CHECKING:
    from reconciler.core.desired import Json


class Exit(IntEnum):
    """Exit codes of the command line; part of its contract."""

    OK = 0
    ERROR = 1
    CHANGES = 2
    DENIED = 3
    POLICY_FAILED = 4
    UNHEALTHY = 5
    BAD_MANIFEST = 6
    USAGE = 64


class Misused(Refused):
    """A request that makes no sense whatever runs here: wrong usage, exit code 64."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request: `verb` with `args`; `actor` is who asked, as the socket's peer credentials tell."""

    verb: str
    args: Mapping[str, Json] = field(default_factory=dict)
    actor: str = ""


Event = Mapping[str, "Json"]
"""`{"event": "step"|"check"|"line"|"tick"|"end", ...}`; `end` carries `exit`, `text` and `value`."""
Events = Iterator[Event]


def end(code: Exit, text: str = "", value: Json = None) -> Event:
    """The last event of every answer."""
    return {"event": "end", "exit": int(code), "text": text, "value": value}


def line(text: str) -> Event:
    """Something to tell while the work goes on."""
    return {"event": "line", "text": text}


TICK: Event = {"event": "tick"}


def is_said(reason: str) -> bool:
    """There is something to read in it."""
    return any(character.isprintable() and not character.isspace() for character in reason)


def text_of(request: Request, name: str) -> str:
    """That argument of the request, where it is text; else ""."""
    value = request.args.get(name)
    return value if isinstance(value, str) else ""
