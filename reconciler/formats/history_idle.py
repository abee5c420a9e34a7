"""Cycles in which nothing happened, merged into one record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from reconciler.core.desired import Json
from reconciler.formats.history_cut import GUIDE_FIELDS, MEASURED

MAX_IDLE_CYCLES = 60  # a quarter of an hour at the usual interval: what a kill can make us forget


@dataclass(frozen=True, slots=True)
class IdleRun:
    """Cycles in a row in which nothing happened, on their way to becoming one record."""

    count: int
    first: str
    latest: Mapping[str, Json]
    ranges: Mapping[str, tuple[float, float]]

    @staticmethod
    def start(cycle: Mapping[str, Json]) -> IdleRun:
        """A run of one; the cycle's record carries the guide's fields, its timestamp among them."""
        return IdleRun(1, str(cycle["timestamp"]), cycle, _widened({}, cycle))

    def fits(self, cycle: Mapping[str, Json]) -> bool:
        """Whether the merged record would still tell the truth about this cycle, and is not too long in coming."""
        return self.count < MAX_IDLE_CYCLES and all(
            self.latest.get(name) == cycle.get(name) for name in ("mode", "policy", "revision", "phase")
        )

    def add(self, cycle: Mapping[str, Json]) -> IdleRun:
        return replace(self, count=self.count + 1, latest=cycle, ranges=_widened(self.ranges, cycle))

    def record(self) -> dict[str, Json]:
        """One record for all: the guide's fields as last seen, the lowest and highest of what was measured."""
        kept = {name: self.latest.get(name) for name in GUIDE_FIELDS}
        also = {name: self.latest[name] for name in ("revision", "phase") if name in self.latest}
        ranges: dict[str, Json] = {name: list(pair) for name, pair in self.ranges.items()}
        span: dict[str, Json] = {"count": self.count, "first": self.first, "last": self.latest["timestamp"]}
        return {"kind": "idle", **kept, **also, **span, "ranges": ranges}


def _widened(ranges: Mapping[str, tuple[float, float]], cycle: Mapping[str, Json]) -> dict[str, tuple[float, float]]:
    """`ranges` with this cycle's numbers in; an unknown number widens nothing."""
    wider = dict(ranges)
    for name in MEASURED:
        value = cycle.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            low, high = wider.get(name, (value, value))
            wider[name] = (min(low, value), max(high, value))
    return wider
