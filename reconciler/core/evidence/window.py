"""The last window of a canary: what people see, and what an operator's promotion is asked about."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.core.evidence.counting import Counts
from reconciler.core.evidence.statistics import histogram_quantile

SLICES = 40


@dataclass(frozen=True, slots=True)
class Slice:
    """Counts of `span_s` seconds until `until`. By paths nothing is kept; buckets as in `Counts`."""

    until: float
    span_s: float
    total: int
    failed: int
    timed: int
    buckets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """The slices that the window is made of, oldest first, and the finite bounds of their buckets in seconds."""

    bounds: tuple[float, ...] = ()
    slices: tuple[Slice, ...] = ()


@dataclass(frozen=True, slots=True)
class Shown:
    """The window's figures; None where nothing tells. Milliseconds, ratio, requests per second, seconds."""

    requests: int
    failed: int
    error_rate: float | None
    p99_ms: float | None
    per_second: float | None
    seconds: float


def slid(window: Window, counts: Counts, span_s: float, now: float, *, seconds: float, least: int) -> Window:
    """The window after a cycle of `span_s`: the last `seconds`, or more where they hold fewer than `least` requests.

    Other bounds of the buckets begin a new window: quantiles of the two cannot be told together.
    """
    old = window.slices if window.bounds == counts.bounds or not counts.timed else ()
    bounds = counts.bounds if counts.timed else window.bounds
    new = Slice(now, span_s, counts.total, counts.failed, counts.timed, counts.buckets if counts.timed else ())
    return Window(bounds, _few(_needed((*_joined(old, new, seconds / SLICES),), now - seconds, least)))


def _joined(old: tuple[Slice, ...], new: Slice, grain_s: float) -> tuple[Slice, ...]:
    """Neighbours that are short for this window become one; somewhat longer ones too where they hold nothing."""
    span_s = old[-1].span_s + new.span_s if old else 0.0
    if old and (span_s <= grain_s or (span_s <= 10 * grain_s and not (old[-1].total or new.total))):
        return (*old[:-1], _merged(old[-1], new))
    return (*old, new)


def _merged(one: Slice, other: Slice) -> Slice:
    buckets = one.buckets or other.buckets
    if one.buckets and other.buckets:
        buckets = tuple(a + b for a, b in zip(one.buckets, other.buckets, strict=True))
    return Slice(
        other.until,
        one.span_s + other.span_s,
        one.total + other.total,
        one.failed + other.failed,
        one.timed + other.timed,
        buckets,
    )


def _needed(slices: tuple[Slice, ...], since: float, least: int) -> tuple[Slice, ...]:
    held, start = 0, len(slices)
    while start and (slices[start - 1].until > since or held < least):
        start -= 1
        held += slices[start].total
    return slices[start:]


def _few(slices: tuple[Slice, ...]) -> tuple[Slice, ...]:
    while len(slices) > SLICES:
        shortest = min(range(len(slices) - 1), key=lambda i: slices[i].span_s + slices[i + 1].span_s)
        one = _merged(slices[shortest], slices[shortest + 1])
        slices = (*slices[:shortest], one, *slices[shortest + 2 :])
    return slices


def shown(window: Window) -> Shown:
    """The figures of the window."""
    total, failed = sum(each.total for each in window.slices), sum(each.failed for each in window.slices)
    buckets = tuple(map(sum, zip(*(each.buckets for each in window.slices if each.buckets), strict=True)))
    timed = sum(each.timed for each in window.slices)
    seconds = sum(each.span_s for each in window.slices)
    return Shown(
        requests=total,
        failed=failed,
        error_rate=failed / total if total else None,
        p99_ms=quantile_ms(0.99, window.bounds, buckets, timed),
        per_second=total / seconds if seconds else None,
        seconds=seconds,
    )


def quantile_ms(quantile: float, bounds: tuple[float, ...], buckets: tuple[int, ...], timed: int) -> float | None:
    """A quantile of counts by finite bounds in seconds, in milliseconds, as Prometheus has it."""
    found = histogram_quantile(quantile, [*zip(bounds, buckets, strict=False), (float("inf"), timed)])
    return None if found is None else 1000.0 * found
