"""Sync windows as the manifest writes them, and when they open: cron's arithmetic, across changes of the clocks.

A fixed time that a change skips opens right after it, one that happens twice opens once; times with * go by the
clock on the wall. That is what cron does on Debian, and the library does it for us. It is loaded on first use: most
manifests have no windows.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, tzinfo

from reconciler.core.windows import Opening, Outlook, Window, WindowKind
from reconciler.formats.findings import Findings, shown, shown_key
from reconciler.formats.known_keys import closest
from reconciler.formats.quantities import seconds
from reconciler.formats.yaml_strict import Node

AHEAD_S = 40 * 86_400.0
"""How far windows are looked up; further for those that open more seldom."""
MOST_STEPS = 400
"""Openings of one window that are looked at, at most."""
_HOUR_S = 3600.0
_LENGTH_S = (60.0, 366 * 86_400.0)
_ANY_DAY = datetime(2024, 1, 1, tzinfo=UTC)


def read_windows(node: Node | None, services: Iterable[str], findings: Findings) -> tuple[Window, ...]:
    """The windows of the block `sync`, in order; what cannot be used becomes a problem with its place."""
    listed = node.at("windows") if node is not None else None
    names = dict.fromkeys(services)
    return tuple(_window(each, names, findings) for each in (listed.items if listed is not None else ()))


def _window(node: Node, services: dict[str, None], findings: Findings) -> Window:
    schedule, zone = _text(node, "schedule"), _text(node, "time_zone") or "UTC"
    for key, trouble in (("schedule", _schedule_trouble(schedule)), ("time_zone", _zone_trouble(zone))):
        place = node.at(key)
        if place is not None and trouble:
            findings.problem(place, f"{place.path} is {shown(place.value)}, {trouble}")
    return Window(
        kind=WindowKind(_text(node, "kind") or WindowKind.DENY),
        schedule=" ".join(schedule.split()),
        duration_s=_duration(node.at("duration"), findings),
        time_zone=zone,
        services=_services(node.at("services"), services, findings),
        reason=_text(node, "reason"),
    )


def _text(node: Node, key: str) -> str:
    below = node.at(key)
    return str(below.value) if below is not None else ""


def _duration(node: Node | None, findings: Findings) -> float:
    value = seconds(node.value) if node is not None else _LENGTH_S[0]
    if node is not None and (value is None or not _LENGTH_S[0] <= value <= _LENGTH_S[1]):
        findings.problem(node, f"{node.path} is {node.text}. Use a time from 1m to 8784h (366 days).")
    return value or _LENGTH_S[0]


def _services(node: Node | None, known: dict[str, None], findings: Findings) -> tuple[str, ...]:
    """A window for a service that is not there would protect nothing: that is an error."""
    for item in node.items if node is not None else ():
        name = str(item.value)
        if name not in known:
            meant = closest(name, known)
            hint = f"Did you mean {meant}?" if meant else f"There is {', '.join(map(shown_key, known)) or 'none'}."
            findings.problem(item, f"{item.path} is {shown(name)}, and no service is called so. {hint}")
    return tuple(dict.fromkeys(str(item.value) for item in (node.items if node is not None else ())))


def _schedule_trouble(schedule: str) -> str:
    from cronsim import CronSim, CronSimError

    if len(schedule.split()) != 5:
        return 'which has not five fields. Use minute, hour, day, month, weekday, for example "0 22 * * 1-5".'
    try:
        next(CronSim(schedule, _ANY_DAY))
    except (StopIteration, CronSimError) as error:
        which = f" ({str(error).lower()})" if str(error) else ""
        return f'which never comes{which}. Use minute, hour, day, month, weekday, for example "0 22 * * 1-5".'
    return ""


def _zone_trouble(zone: str) -> str:
    try:
        _zone(zone)
    except (KeyError, ValueError, OSError):
        return "which this host does not know. Use a name such as Europe/Berlin or UTC."
    return ""


@functools.lru_cache(maxsize=64)
def _zone(name: str) -> tzinfo:
    """Raises KeyError, ValueError or OSError where there is no such zone."""
    from zoneinfo import ZoneInfo

    return UTC if name == "UTC" else ZoneInfo(name)


# --- when windows open


def outlooks(windows: Sequence[Window], now: float) -> tuple[Outlook, ...]:
    """When each window is open, from `now` (seconds since the epoch) on, in the order of `windows`. Never raises.

    Cheap when asked often: what was worked out holds for an hour. A window whose zone this host no longer knows is
    taken to be shut for good: one that denies never closes, one that allows never opens.
    """
    hour = math.floor(now / _HOUR_S)
    return tuple(_outlook(window, hour) for window in windows)


@functools.lru_cache(maxsize=256)
def _outlook(window: Window, hour: int) -> Outlook:
    from cronsim import CronSimError

    try:
        return _looked_up(window, hour * _HOUR_S)
    except (CronSimError, KeyError, ValueError, OSError, OverflowError):
        shut = (Opening(-math.inf, math.inf),) if window.kind is WindowKind.DENY else ()
        return Outlook(window, shut, math.inf)


def _looked_up(window: Window, since: float) -> Outlook:
    """The opening that `since` may be in, those up to AHEAD_S later (MOST_STEPS at most), and the one after these."""
    horizon = since + _HOUR_S + AHEAD_S
    found: list[Opening] = []
    for step, opens in enumerate(_times(window, since)):
        closes = opens + window.duration_s
        is_last = opens > horizon or step == MOST_STEPS
        if found and opens <= found[-1].closes:
            found[-1] = Opening(found[-1].opens, math.inf if is_last else closes)
        else:
            found.append(Opening(opens, closes))
        if is_last:
            return Outlook(window, tuple(found), closes)
    return Outlook(window, tuple(found), math.inf)


def _times(window: Window, since: float) -> Iterator[float]:
    """When the schedule comes, in order, from a time before `since` on where it ever came before.

    Backwards the library goes by the clock on the wall, so that time need not be the last one; none after it is missed.
    """
    zone = _zone(window.time_zone)
    start = next((at for at in _sim(window, since, zone, reverse=True) if at <= since), None)
    if start is not None:
        yield start
    yield from _sim(window, since if start is None else start, zone)


def _sim(window: Window, start: float, zone: tzinfo, *, reverse: bool = False) -> Iterator[float]:
    """The schedule's times after `start`, or before it."""
    from cronsim import CronSim

    return (at.timestamp() for at in CronSim(window.schedule, datetime.fromtimestamp(start, zone), reverse))
