"""Time in a simulated world: it passes when told to, and the wall clock may jump."""

from __future__ import annotations

import functools
from datetime import UTC, datetime

EPOCH = datetime(2000, 1, 1, tzinfo=UTC).timestamp()


class SimClock:
    """`seconds` never go back; `jumped` is by how much somebody set the wall clock wrong, in seconds."""

    __slots__ = ("jumped", "seconds")

    def __init__(self, seconds: float = 0.0, jumped: float = 0.0) -> None:
        self.seconds = seconds
        self.jumped = jumped

    def now(self) -> float:
        return EPOCH + self.seconds + self.jumped

    def monotonic(self) -> float:
        return self.seconds

    def timestamp(self) -> str:
        return _stamp(round(self.seconds + self.jumped, 3))


@functools.lru_cache(maxsize=10_000)
def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(EPOCH + seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
