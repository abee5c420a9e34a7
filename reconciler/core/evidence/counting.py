"""From lifetime counters to what happened between two readings, per container and for a track of several.

A difference is only taken where it is known what it means; where it is not, the cycle is dropped and said to be.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from reconciler.core.evidence.readings import Counted, Reading, Unread

NAMED_PATHS = 8
LONGEST_PATH = 64
CLOCK_SLACK_S = 2.0


class Source(StrEnum):
    """Whose counts decide."""

    SERVICE = "service"
    PROXY = "proxy"


@dataclass(frozen=True, slots=True)
class Tally:
    """A reading, folded to what the next one is compared with.

    `requests` and `errors` are of the other paths first, then of each path of the run's list as far as it went
    then. `buckets` are cumulative up to each of the finite `bounds` (seconds); `timed` is all observations.
    """

    at: float
    began: float
    uptime_s: float
    requests: tuple[int, ...]
    errors: tuple[int, ...]
    bounds: tuple[float, ...]
    buckets: tuple[int, ...]
    timed: int


@dataclass(frozen=True, slots=True)
class Counts:
    """What happened in a span of time. Slots of `requests` and `errors` as in a tally; buckets are cumulative.

    `slow_least` are surely slower than the limit, `slow_most` are not surely faster; they differ where the limit is
    no bucket's bound. `is_timed` is false where there is no telling at all.
    """

    requests: tuple[int, ...] = ()
    errors: tuple[int, ...] = ()
    bounds: tuple[float, ...] = ()
    buckets: tuple[int, ...] = ()
    timed: int = 0
    slow_least: int = 0
    slow_most: int = 0
    is_timed: bool = True

    @property
    def total(self) -> int:
        """All requests."""
        return sum(self.requests)

    @property
    def failed(self) -> int:
        """All requests that were answered with 5xx."""
        return sum(self.errors)


def added(some: Counts, more: Counts) -> Counts:
    """Both together. Buckets of different bounds cannot be added: the larger side's stay."""
    if not some.requests and not some.timed:
        return more
    if not more.requests and not more.timed:
        return some
    bounds, buckets = (some.bounds, some.buckets) if some.timed >= more.timed else (more.bounds, more.buckets)
    if some.bounds == more.bounds:
        buckets = tuple(one + other for one, other in zip(some.buckets, more.buckets, strict=True))
    return Counts(
        requests=_slotwise(some.requests, more.requests),
        errors=_slotwise(some.errors, more.errors),
        bounds=bounds,
        buckets=buckets,
        timed=some.timed + more.timed,
        slow_least=some.slow_least + more.slow_least,
        slow_most=some.slow_most + more.slow_most,
        is_timed=some.is_timed and more.is_timed,
    )


def _slotwise(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    length = max(len(one), len(other))
    return tuple(_slot(one, index) + _slot(other, index) for index in range(length))


def _slot(values: tuple[int, ...], index: int) -> int:
    return values[index] if index < len(values) else 0


def trusted(reading: Reading | Unread) -> Reading | Unread:
    """The reading, or why its numbers cannot be counts."""
    if isinstance(reading, Unread):
        return reading
    numbers = (reading.at, reading.began, reading.uptime_s, *reading.requests.values(), *reading.errors.values())
    if not all(math.isfinite(each) for each in numbers) or min(numbers) < 0:
        return Unread("a count is negative or not a number")
    if any(count > reading.requests.get(path, 0) for path, count in reading.errors.items()):
        return Unread("more requests failed than there were")
    counts = [count for _, count in reading.buckets]
    if counts and (min(counts) < 0 or counts != sorted(counts) or not math.isinf(reading.buckets[-1][0])):
        return Unread("the latency buckets are not cumulative, or have no infinite one")
    return reading


def known_paths(paths: tuple[str, ...], readings: Iterable[Reading | Unread]) -> tuple[str, ...]:
    """The run's list of paths that are told apart, with new ones at its end while there is room.

    The rest count as one. A path that was ever part of the rest never gets a place of its own, so that counts of
    one slot never jump: places are only given while all paths seen had one.
    """
    seen: dict[str, int] = {}
    for reading in readings:
        for path, count in reading.requests.items() if isinstance(reading, Reading) else ():
            if path not in paths and len(path) <= LONGEST_PATH:
                seen[path] = seen.get(path, 0) + count
    newest = sorted(seen, key=lambda path: (-seen[path], path))
    return (*paths, *newest[: NAMED_PATHS - len(paths)])


def tally(reading: Reading, paths: tuple[str, ...]) -> Tally:
    """The reading by the run's paths."""
    requests, errors = reading.requests, reading.errors
    finite = [(bound, count) for bound, count in reading.buckets if math.isfinite(bound)]
    return Tally(
        at=reading.at,
        began=reading.began,
        uptime_s=reading.uptime_s or max(0.0, reading.at - reading.began),
        requests=_by_path(requests, paths),
        errors=_by_path(errors, paths),
        bounds=tuple(bound for bound, _ in finite),
        buckets=tuple(count for _, count in finite),
        timed=reading.buckets[-1][1] if reading.buckets else 0,
    )


def _by_path(counts: Mapping[str, int], paths: tuple[str, ...]) -> tuple[int, ...]:
    named = [int(counts.get(path, 0)) for path in paths]
    return (int(sum(counts.values())) - sum(named), *named)


class Step(StrEnum):
    """How a tally goes on from the one before."""

    UNKNOWN_START = "unknown start"
    FROM_ZERO = "from zero"
    GOES_ON = "goes on"
    RESTARTED = "restarted"
    UNCLEAR = "unclear"


def step(before: Tally | None, after: Tally, since: float) -> Step:
    """What the difference of two tallies means; `since` is when the run of evidence began.

    A shorter uptime, or a later beginning together with a counter that fell, is a restart. A counter that fell
    while uptime rose is not one life's count (several processes that answer in turn, or corruption); a beginning
    that moved while no counter fell may be a restart or a clock that was set: neither can be counted.
    """
    if before is None:
        return Step.FROM_ZERO if after.began >= since else Step.UNKNOWN_START
    fell, moved = _fell(before, after), after.began > before.began + CLOCK_SLACK_S
    if after.uptime_s < before.uptime_s or (moved and fell):
        return Step.RESTARTED
    return Step.UNCLEAR if moved or fell or before.bounds != after.bounds else Step.GOES_ON


def _fell(before: Tally, after: Tally) -> bool:
    return (
        any(_slot(after.requests, index) < count for index, count in enumerate(before.requests))
        or any(_slot(after.errors, index) < count for index, count in enumerate(before.errors))
        or after.timed < before.timed
        or (before.bounds == after.bounds and any(b < a for a, b in zip(before.buckets, after.buckets, strict=True)))
    )


def difference(before: Tally | None, after: Tally, threshold_s: float) -> Counts:
    """What happened between the two, or since zero where `before` is None."""
    if before is None:
        requests, errors, buckets, timed = after.requests, after.errors, after.buckets, after.timed
    else:
        requests, errors = _less(after.requests, before.requests), _less(after.errors, before.errors)
        buckets, timed = _less(after.buckets, before.buckets), after.timed - before.timed
    # A page may be read between the two counts of one failed request.
    errors = tuple(min(failed, _slot(requests, index)) for index, failed in enumerate(errors))
    least, most, is_timed = slower(after.bounds, buckets, timed, threshold_s)
    return Counts(requests, errors, after.bounds, buckets, timed, least, most, is_timed)


def _less(after: tuple[int, ...], before: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(count - _slot(before, index) for index, count in enumerate(after))


def slower(
    bounds: tuple[float, ...], buckets: tuple[int, ...], timed: int, threshold_s: float
) -> tuple[int, int, bool]:
    """How many of `timed` were surely, and how many perhaps, slower than `threshold_s`, and whether that is told.

    At a bucket's bound both are exact: P99 > t if and only if more than 1 % were slower than t. Between two bounds
    the truth is bracketed. Above the highest finite bound nothing is told: (0, timed, False).
    """
    above = next((index for index, bound in enumerate(bounds) if bound >= threshold_s), None)
    if above is None:
        return 0, timed, False
    surely = timed - buckets[above]
    if bounds[above] == threshold_s:
        return surely, surely, True
    return surely, timed - (buckets[above - 1] if above else 0), True


@dataclass(frozen=True, slots=True)
class Seen:
    """What was last read of one container; `why` is why nothing was, since `missed_since` (0.0: it was read)."""

    service: Tally | None = None
    proxy: Tally | None = None
    missed_since: float = 0.0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Gained:
    """What one cycle brought of a track. `warm` is the part after warm-up; `twice` what both sources counted.

    `read` and `missed` are containers; `restarts` are processes begun anew; `unclear` says which counts could not
    be taken for what they said.
    """

    whole: Counts = field(default_factory=Counts)
    warm: Counts = field(default_factory=Counts)
    is_warm: bool = False
    by_service: Counts = field(default_factory=Counts)
    by_proxy: Counts = field(default_factory=Counts)
    skew_s: float = 0.0
    read: int = 0
    missed: int = 0
    counted: int = 0
    restarts: int = 0
    unclear: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """How a track is counted: by whom, since when, by which paths; seconds."""

    source: Source
    since: float
    now: float
    paths: tuple[str, ...]
    threshold_s: float
    warmup_s: float


def count_track(
    seen: Mapping[str, Seen], counted: Mapping[str, Counted], asked: Asked
) -> tuple[Mapping[str, Seen], Gained]:
    """What each container of a track is remembered by from now on, and what the cycle brought in all.

    Containers that are not in `counted` are forgotten: they are gone.
    """
    after: dict[str, Seen] = {}
    total = Gained()
    for container in sorted(counted):
        after[container], gained = _count(seen.get(container, Seen()), counted[container], asked)
        total = _together(total, gained)
    return after, total


def _count(seen: Seen, counted: Counted, asked: Asked) -> tuple[Seen, Gained]:
    readings = {Source.SERVICE: trusted(counted.service), Source.PROXY: trusted(counted.proxy)}
    now = {name: tally(each, asked.paths) for name, each in readings.items() if isinstance(each, Reading)}
    before = {Source.SERVICE: seen.service, Source.PROXY: seen.proxy}
    decisive = readings[asked.source]
    if isinstance(decisive, Unread):
        missed_since = seen.missed_since or asked.now
        # The other source's tally waits too, so that both always span the same time.
        return Seen(seen.service, seen.proxy, missed_since, decisive.why), Gained(missed=1)
    return Seen(now.get(Source.SERVICE), now.get(Source.PROXY)), _gained(before, now, asked)


def _gained(before: Mapping[Source, Tally | None], now: Mapping[Source, Tally], asked: Asked) -> Gained:
    last, new = before[asked.source], now[asked.source]
    how = step(last, new, asked.since)
    restarts = int(_has_restarted(before, now, asked.since))
    if how is Step.UNCLEAR:
        return Gained(read=1, restarts=restarts, unclear="a count fell or began anew while the container lived on")
    if how is Step.UNKNOWN_START:
        return Gained(read=1)
    base = last if how is Step.GOES_ON else None
    whole = difference(base, new, asked.threshold_s)
    is_warm = base is not None and _uptime_s(before, base) >= asked.warmup_s
    both = _both(before, now, asked) if how is Step.GOES_ON else None
    return Gained(
        whole=whole,
        warm=whole if is_warm else Counts(),
        is_warm=is_warm,
        by_service=both[0] if both else Counts(),
        by_proxy=both[1] if both else Counts(),
        skew_s=both[2] if both else 0.0,
        read=1,
        counted=1,
        restarts=restarts,
    )


def _has_restarted(before: Mapping[Source, Tally | None], now: Mapping[Source, Tally], since: float) -> bool:
    last, new = before[Source.SERVICE], now.get(Source.SERVICE)
    return last is not None and new is not None and step(last, new, since) is Step.RESTARTED


def _uptime_s(before: Mapping[Source, Tally | None], base: Tally) -> float:
    """The process's age when the span began: by its own word where there is one."""
    service = before[Source.SERVICE]
    return service.uptime_s if service is not None else base.uptime_s


def _both(
    before: Mapping[Source, Tally | None], now: Mapping[Source, Tally], asked: Asked
) -> tuple[Counts, Counts, float] | None:
    """What service and proxy counted in the same span, and by how much their moments differ; None: not both did."""
    counts, ats = [], []
    for source in Source:
        last, new = before[source], now.get(source)
        if last is None or new is None or step(last, new, asked.since) is not Step.GOES_ON:
            return None
        counts.append(difference(last, new, asked.threshold_s))
        ats.append((last.at, new.at))
    skew = max(abs(one - other) for one, other in zip(*ats, strict=True))
    return counts[0], counts[1], skew


def _together(some: Gained, more: Gained) -> Gained:
    return Gained(
        whole=added(some.whole, more.whole),
        warm=added(some.warm, more.warm),
        is_warm=some.is_warm or more.is_warm,
        by_service=added(some.by_service, more.by_service),
        by_proxy=added(some.by_proxy, more.by_proxy),
        skew_s=max(some.skew_s, more.skew_s),
        read=some.read + more.read,
        missed=some.missed + more.missed,
        counted=some.counted + more.counted,
        restarts=some.restarts + more.restarts,
        unclear=some.unclear or more.unclear,
    )


def chosen(source: Source | None, provider: str, tracks: Iterable[Counted]) -> Source | None:
    """Whose counts decide for a run; None while that cannot be told.

    `auto` takes the services' own where every container has them, else the proxy's, and stays with its choice
    unless a service stops counting at all.
    """
    if provider != "auto":
        return Source.PROXY if provider == "ingress" else Source.SERVICE
    readings = [each.service for each in tracks]
    if source is Source.PROXY or any(isinstance(each, Unread) and each.is_absent for each in readings):
        return Source.PROXY
    if source is None and not any(isinstance(each, Reading) for each in readings):
        return None
    return Source.SERVICE
