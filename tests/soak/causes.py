"""Why a request failed: judged by nginx's own log and by what was done to the container that it went to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

BAD_KINDS = frozenset(("errors", "late"))
REMOVAL_SHADOW_S = 20.0
"""So long after somebody removed a container requests to it may still fail: nginx's own limit to connect, and some."""

LOG_LINE = re.compile(
    r"^\S+ \| (?P<status>\d{3}) \| \S+ \| (?P<upstreams>.*?) \| [A-Z]+ /\?n=(?P<number>\d+-\d+) HTTP/1\.1$"
)


@dataclass(frozen=True, slots=True)
class Failure:
    """One request without an answer of 200, as its client saw it. `at` in seconds since the epoch."""

    number: str
    at: float
    took_s: float
    what: str
    mode: str = ""


@dataclass(frozen=True, slots=True)
class Backend:
    """A container that had an address at some time. `removed_at` where the soak itself took it away."""

    name: str
    kind: str
    mode: str
    removed_at: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """nginx's line about one request: `upstreams` are the addresses it tried, in their order."""

    status: int
    upstreams: tuple[str, ...]


def answers(log: Iterable[str], numbers: frozenset[str]) -> dict[str, Answer]:
    """What nginx says of these requests."""
    found = {}
    for line in log:
        match = LOG_LINE.match(line.strip())
        if match and match["number"] in numbers:
            upstreams = tuple(re.findall(r"(\d+\.\d+\.\d+\.\d+):\d+", match["upstreams"]))
            found[match["number"]] = Answer(int(match["status"]), upstreams)
    return found


def explanation(failure: Failure, answer: Answer | None, backends: Mapping[str, list[Backend]]) -> str:
    """Why that was bound to happen, or "" where nothing that was done explains it."""
    if answer is None or not answer.upstreams:
        return ""
    last = backends.get(answer.upstreams[-1], [])
    if failure.what == "500" and answer.status == 500 and any(b.kind in BAD_KINDS and b.mode == "canary" for b in last):
        return "the bad canary's own answer"
    for backend in last:
        gone = backend.removed_at
        if gone is not None and gone - failure.took_s - 1 <= failure.at <= gone + REMOVAL_SHADOW_S:
            return "went to a container that was removed by force"
    return ""
