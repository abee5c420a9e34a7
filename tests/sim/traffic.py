"""Requests in a simulated world: nginx sends them, containers count them, and `/metrics` may lie about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reconciler.core.evidence.readings import Counted, Reading, Unread
from reconciler.core.observed import ObservedContainer, Slot
from reconciler.ports import MeasureTarget
from tests.sim.clock import EPOCH
from tests.sim.proxy import routes, shares

MODES = ("well", "absent", "garbage", "frozen", "silent", "disputed")
"""How `/metrics` may be; `absent` leaves only nginx's own count, `disputed` is one that hides its errors from it."""

PROBES_PER_S = 10.0


class SimTraffic:
    """Metrics and probes. `rate` is requests a second of each service, `errors` and `slow` are shares by image."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.rate = 200.0
        self.mode = "well"
        self.errors: dict[str, float] = {}
        self.slow: dict[str, float] = {}
        self.counts: dict[str, tuple[float, float, float]] = {}
        self.began: dict[str, float] = {}
        self.probed: frozenset[tuple[str, Slot]] = frozenset()
        self.at = 0.0

    def clone(self, world: Any) -> SimTraffic:
        """The same traffic in another world."""
        twin = SimTraffic(world)
        twin.rate, twin.mode, twin.at, twin.probed = self.rate, self.mode, self.at, self.probed
        twin.errors, twin.slow = dict(self.errors), dict(self.slow)
        twin.counts, twin.began = dict(self.counts), dict(self.began)
        return twin

    def set(self, slots: Iterable[tuple[Any, Slot]]) -> None:
        self.probed = frozenset((service.name, slot) for service, slot in slots if service.rollout.probe_path)

    def reset(self) -> None:
        """Every process forgets what it counted."""
        self.flow()
        self.began = dict.fromkeys(self.counts, self.world.clock.now())
        self.counts = {}

    def flow(self) -> None:
        """Let the requests since the last look be counted."""
        now = self.world.clock.seconds
        passed, self.at = now - self.at, now
        text = self.world.proxy.live
        if passed <= 0 or text is None:
            return
        by_address = self.world.well_by_address()
        for service in routes(text).default:
            for address, share in shares(text, self.world.proxy.weights, service):
                self._count(by_address.get(address), self.rate * passed * share)
        for service, slot in self.probed:
            there = routes(text).members.get(f"{service}-{slot}", frozenset())
            for address in there:
                self._count(by_address.get(address), PROBES_PER_S * passed / len(there))

    def _count(self, box: Any, requests: float) -> None:
        if box is not None:
            image = box.request.spec.image
            total, failed, slow = self.counts.get(box.id, (0.0, 0.0, 0.0))
            bad, late = self.errors.get(image, 0.0), self.slow.get(image, 0.0)
            self.counts[box.id] = (total + requests, failed + requests * bad, slow + requests * late)

    def read(self, targets: Sequence[MeasureTarget], _proxy: ObservedContainer | None) -> Mapping[str, Counted]:
        if self.mode == "frozen":
            self.at = self.world.clock.seconds
        else:
            self.flow()
        return {target.container.id: self._counted(target.container) for target in targets}

    def _counted(self, container: ObservedContainer) -> Counted:
        """The very same for the same counts, so that what is made of it can be remembered."""
        counts = self.counts.get(container.id, (0.0, 0.0, 0.0))
        now = self.world.clock.now()
        box = self.world.engine.boxes.get(container.id)
        started = EPOCH + (box.started or 0.0) if box is not None else now
        began = self.began.get(container.id) or started
        key = (self.mode, container.mode, counts, now, began)
        found = _COUNTED.get(key)
        if found is None:
            if len(_COUNTED) > 10_000:
                _COUNTED.clear()
            found = _COUNTED[key] = self._made(container, counts, now, began)
        return found

    def _made(
        self, container: ObservedContainer, counts: tuple[float, float, float], now: float, began: float
    ) -> Counted:
        by_proxy = _reading(counts, now, began, "")
        match self.mode:
            case "garbage":
                return Counted(Unread("line 3 is not a sample"), by_proxy)
            case "silent":
                return Counted(Unread("connection refused"), Unread("connection refused"))
            case "absent":
                return Counted(Unread("404", is_absent=True), by_proxy)
            case "disputed":
                return Counted(_reading(counts, now, began, container.mode, hides=True), by_proxy)
            case _:
                return Counted(_reading(counts, now, began, container.mode), by_proxy)


_COUNTED: dict[Any, Counted] = {}


def _reading(
    counts: tuple[float, float, float], now: float, began: float, mode: str, *, hides: bool = False
) -> Reading:
    total, failed, slow = int(counts[0] + 1e-6), int(counts[1] + 1e-6), int(counts[2] + 1e-6)
    buckets = ((0.5, total - slow), (float("inf"), total))
    errors = {"/": 0 if hides else failed}
    return Reading(now, began, {"/": total}, errors, buckets, max(0.0, now - began), mode, "none" if mode else "")
