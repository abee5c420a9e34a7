"""Sync windows: when a service may be changed, and when it may not.

Deny wins. Where any window that concerns a service allows, it is closed outside of all that do. When windows open is
worked out elsewhere (`reconciler.formats.sync.outlooks`); here it is judged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class WindowKind(StrEnum):
    """What a window does while it is open."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Window:
    """One entry of `sync.windows`: it opens by `schedule` (five cron fields in `time_zone`) for `duration_s` seconds.

    The seconds are elapsed ones, also across a change of the clocks. `services` empty: all of them.
    """

    kind: WindowKind
    schedule: str
    duration_s: float
    time_zone: str = "UTC"
    services: tuple[str, ...] = ()
    reason: str = ""

    def concerns(self, service: str) -> bool:
        """Whether it says anything about this service."""
        return not self.services or service in self.services

    def __str__(self) -> str:
        name = f'"{self.reason}" ' if self.reason else ""
        return f"{self.kind} window {name}({self.schedule} {self.time_zone}, {_length(self.duration_s)})"


@dataclass(frozen=True, slots=True, order=True)
class Opening:
    """One stretch in which a window is open: from `opens` up to but not at `closes`, in seconds since the epoch.

    `closes` is infinite where no end was found.
    """

    opens: float
    closes: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """When a window is open, from some moment on: its openings in order, none touching the next.

    Of what comes at `known_until` or later nothing is known.
    """

    window: Window
    openings: tuple[Opening, ...]
    known_until: float

    def current(self, now: float) -> Opening | None:
        """The opening that `now` is in."""
        return next((each for each in self.openings if each.opens <= now < each.closes), None)

    def coming(self, now: float) -> Opening | None:
        """The first opening after `now`."""
        return next((each for each in self.openings if each.opens > now), None)


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether a service may be changed now, why, and from when on (seconds since the epoch) that is otherwise.

    `until` None: it stays so for as long as is known. `window` is the one that decided; None where no window did.
    """

    is_open: bool
    reason: str
    until: float | None = None
    window: Window | None = None


OPEN = Gate(True, "no window says otherwise")


def gate(outlooks: Sequence[Outlook], service: str, now: float) -> Gate:
    """What the windows say of `service` at `now` (seconds since the epoch); open where none concerns it."""
    mine = [each for each in outlooks if each.window.concerns(service)]
    if not mine:
        return OPEN
    until = _otherwise(mine, now)
    denying = _open_ones(mine, WindowKind.DENY, now)
    if denying:
        closes, window = max(denying, key=_last)
        return Gate(False, f"inside the {window} {_until(closes)}", until, window)
    allows = [each for each in mine if each.window.kind is WindowKind.ALLOW]
    if not allows:
        return Gate(True, f"no deny window is open{_next_deny(mine, now)}", until)
    allowing = _open_ones(mine, WindowKind.ALLOW, now)
    if allowing:
        closes, window = max(allowing, key=_last)
        return Gate(True, f"inside the {window} {_until(closes)}{_next_deny(mine, now)}", until, window)
    return _outside(allows, now, until)


def _outside(allows: Sequence[Outlook], now: float, until: float | None) -> Gate:
    coming = [(opening.opens, each.window) for each in allows if (opening := each.coming(now)) is not None]
    if not coming:
        return Gate(False, f"outside every allow window; the {allows[0].window} is not seen to open", until)
    opens, window = min(coming, key=lambda pair: pair[0])
    return Gate(False, f"outside every allow window; the {window} opens at {moment(opens)}", until, window)


def _open_ones(mine: Iterable[Outlook], kind: WindowKind, now: float) -> list[tuple[float, Window]]:
    found = ((each.current(now), each.window) for each in mine if each.window.kind is kind)
    return [(opening.closes, window) for opening, window in found if opening is not None]


def _last(pair: tuple[float, Window]) -> float:
    return pair[0]


def _next_deny(mine: Iterable[Outlook], now: float) -> str:
    coming = [
        (opening.opens, each.window)
        for each in mine
        if each.window.kind is WindowKind.DENY and (opening := each.coming(now)) is not None
    ]
    if not coming:
        return ""
    opens, window = min(coming, key=lambda pair: pair[0])
    return f"; the {window} opens at {moment(opens)}"


def _otherwise(mine: Sequence[Outlook], now: float) -> float | None:
    """The first moment after `now` at which the answer is another, as far as all windows are known."""
    known_until = min(each.known_until for each in mine)
    edges = {edge for each in mine for opening in each.openings for edge in (opening.opens, opening.closes)}
    is_open = _is_open(mine, now)
    for edge in sorted(edges):
        if now < edge < known_until and _is_open(mine, edge) is not is_open:
            return edge
    return None


def _is_open(mine: Sequence[Outlook], at: float) -> bool:
    if _open_ones(mine, WindowKind.DENY, at):
        return False
    has_allow = any(each.window.kind is WindowKind.ALLOW for each in mine)
    return not has_allow or bool(_open_ones(mine, WindowKind.ALLOW, at))


# --- words


def moment(seconds: float) -> str:
    """A moment (seconds since the epoch) to the minute, in UTC."""
    return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%d %H:%M} UTC"


def _until(closes: float) -> str:
    return "without an end in sight" if math.isinf(closes) else f"until {moment(closes)}"


def _length(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count) or "0s"
