"""Docker in a simulated world: the contract-tested engine in memory, with what a real one does to its callers.

The list may be old, the engine away, an answer lost, and a call that timed out may still be carried out later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from reconciler.adapters.docker_decode import PROJECT
from reconciler.adapters.memory import Box, MemoryEngine
from reconciler.core.errors import EngineError
from reconciler.core.observed import EngineState, ObservedContainer, ObservedNetwork, Status
from reconciler.core.plan import Action, Result
from reconciler.ports import Wanted
from tests.sim.clock import EPOCH, SimClock

SERVICE = "io.swiftdeploy.service"
REVISION = "io.swiftdeploy.revision"
OURS = "inst"


class SimEngine(MemoryEngine):
    """`late` are calls that timed out and are still to happen; `stale` answers are given while `lag` is above 0."""

    def __init__(self, clock: SimClock) -> None:
        super().__init__(instance=OURS, monotonic=clock.monotonic)
        self.clock = clock
        self.late: list[Action] = []
        self.lag = 0
        self.since: dict[int, float] = {}
        self._seen: deque[EngineState] = deque(maxlen=4)

    def clone(self, clock: SimClock) -> SimEngine:
        """The same engine in another world."""
        twin = SimEngine(clock)
        for name in ("images", "registry", "broken_images", "volumes", "ports_of_others", "networks"):
            setattr(twin, name, dict(getattr(self, name)))
        twin.boxes = {key: _copy(box) for key, box in self.boxes.items()}
        twin.is_down, twin.lag, twin.late = self.is_down, self.lag, list(self.late)
        twin.since = dict(self.since)
        twin.pull_s, twin.stop_s = self.pull_s, self.stop_s
        twin._project, twin._count, twin._instance = self._project, self._count, self._instance
        twin._pulls, twin._pull_failures = dict(self._pulls), dict(self._pull_failures)
        twin._pull_again_at_s, twin._stops = dict(self._pull_again_at_s), dict(self._stops)
        twin._seen = self._seen.copy()
        return twin

    def observe(self, wanted: Wanted) -> EngineState:
        fresh = super().observe(wanted)
        if self.lag and self._seen:
            self.lag -= 1
            return self._seen[0]
        self._seen.append(fresh)
        return fresh

    def up_s(self, box: Box) -> float:
        """How long its process has been running, whatever the wall clock says."""
        return self.clock.seconds - self.since.get(box.pid, 0.0)

    def _start(self, box: Box) -> Result:
        before, result = box.pid, super()._start(box)
        if box.pid != before:
            self.since[box.pid] = self.clock.seconds
        return result

    def happen_late(self) -> None:
        """What timed out is carried out after all."""
        late, self.late = self.late, []
        for action in late:
            super().apply(action)

    def ours(self, service: str = "") -> list[Box]:
        """All containers of our project, or those of one service."""
        boxes = [box for box in self.boxes.values() if box.labels.get(PROJECT) == "demo"]
        return [box for box in boxes if not service or box.labels.get(SERVICE) == service]

    def stop_by_hand(self, box: Box, code: int = 137) -> None:
        """`docker stop` or `docker kill`: its restart policy does not bring it back."""
        self._exited(box, code)

    def start_by_hand(self, box: Box) -> None:
        """`docker start`, where that is possible."""
        self._start(box)

    def reboot(self) -> None:
        """As MemoryEngine, but whoever comes back comes back later than everything stopped."""
        self._count += 1
        super().reboot()

    def prune(self) -> None:
        """As MemoryEngine; a registry has all images."""
        self.registry |= self.images
        super().prune()

    def _moment(self) -> float:
        return self.clock.now() - EPOCH + self._count * 1e-6

    def _observed(self, box: Box, networks: Sequence[ObservedNetwork]) -> ObservedContainer:
        key = (
            box.id,
            tuple(box.labels.values()),
            box.request.spec.image_id,
            box.request.spec.ports,
            box.status,
            box.pid,
            tuple(box.endpoints.items()),
            tuple(box.fixed.items()),
            box.exit_code,
            box.oom_killed,
            box.error,
            box.restarts,
            box.started,
            box.finished,
            box.restart_policy,
            self._instance,
            tuple(net.id for net in networks),
        )
        found = _OBSERVED.get(key)
        if found is None:
            if len(_OBSERVED) > 20_000:
                _OBSERVED.clear()
            found = _OBSERVED[key] = super()._observed(box, networks)
        return found

    def refuse(self) -> None:
        """Raises EngineError, as every call does while nobody listens."""
        raise EngineError("the engine answered 500: something broke inside", retryable=True)


_OBSERVED: dict[tuple[object, ...], ObservedContainer] = {}
"""What a container looks like is made from exactly these things; making it anew each time is slow."""


def _copy(box: Box) -> Box:
    return Box(
        box.id,
        box.name,
        box.labels,
        box.request,
        box.status,
        dict(box.endpoints),
        dict(box.fixed),
        box.pid,
        box.exit_code,
        box.oom_killed,
        box.error,
        box.restarts,
        box.started,
        box.finished,
        box.docker_health,
        box.stopped_by_us,
        box.restart_policy,
        box.log,
    )


def is_up(box: Box) -> bool:
    """Its process runs."""
    return box.status is Status.RUNNING
