"""What takes cycles to show: who is served badly, or gets requests unjudged, for longer than it takes to mend it.

A cycle counts only where nothing went wrong in it or shortly before, and where nothing kept the product from acting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.core.desired import POLICY
from reconciler.core.plan import CreateContainer, RemoveContainer, SetTraffic, StopContainer
from reconciler.core.record import Cycle, Verdict
from tests.sim.engine import REVISION
from tests.sim.manifests import UNKNOWN_BUDGET_S
from tests.sim.proxy import routes, shares

AT_NOBODY = 6
"""Clean cycles in which requests may go to nobody while others are well: health's patience, a reload, its drain."""
UNJUDGED = int(UNKNOWN_BUDGET_S) + 4
CONDEMNED = 14
"""Clean cycles until what policy condemns while it is watched has no requests any more: the old ones start first."""
NOT_UP = ("returning", "restoring", "switching", "settling", "watching")
"""Phases in which more weight for the other slot brings nothing unproven: the way back, the promoted revision's
change from one slot to the other, and the time in which only the one that was stable before stands there."""
LONGEST_TICK_S = 30.0
LONGEST_STEP_S = 3.0

Place = tuple[str, str]


class Violation(BaseException):
    """A rule was broken: not to be taken for a bug of an adapter, it ends the run."""

    def __init__(self, rule: str, words: str) -> None:
        super().__init__(rule, words)
        self.rule = rule

    def __str__(self) -> str:
        return ": ".join(self.args)


class Watch:
    """Counts of clean cycles. `gates` are the manifests for which the gate of a start stood open once."""

    def __init__(self) -> None:
        self.at_nobody: Mapping[str, int] = {}
        self.unjudged: Mapping[str, int] = {}
        self.condemned: Mapping[Place, int] = {}
        self.observed: Mapping[tuple[str, str, int], float] = {}
        self.gates: frozenset[str] = frozenset()
        self.is_admitted = True
        self.has_condemned = False
        self._known: frozenset[str] = frozenset()
        self._fired = 0
        self._at = 0.0
        self._decided = 0.0
        self._tick_s = 0.0

    def clone(self) -> Watch:
        """The same counts in another world."""
        twin = Watch()
        twin.__dict__.update(self.__dict__)
        return twin

    def key(self) -> tuple[Any, ...]:
        """What the next judgement can depend on."""
        counts = (self.at_nobody, self.unjudged, self.condemned)
        return (*(tuple(sorted(each.items())) for each in counts), *self._steps(), self.has_condemned, self.is_admitted)

    def _steps(self) -> list[tuple[Any, ...]]:
        """How long each step was watched, as far as any step lasts."""
        return sorted((*key, min(LONGEST_STEP_S, round(seconds, 1))) for key, seconds in self.observed.items())

    # ---------------------------------------------------------------- what is seen

    def begin(self, world: Any) -> None:
        """A cycle begins."""
        self._known, self._fired = frozenset(), len(world.fired)
        self._at = world.clock.now()
        self._tick_s = min(LONGEST_TICK_S, max(0.0, self._at - self._decided))

    def heard(self, world: Any, domain: str, service: str, verdict: Verdict, level: Mapping[Place, int]) -> None:
        """OPA answered."""
        is_yes = verdict.known and verdict.allow
        if domain == "admission":
            self.is_admitted = is_yes
        if domain == "infrastructure" and is_yes and world.in_force is not None:
            self.gates |= {world.in_force.revision}
        if domain != "canary" or not verdict.known:
            return
        self._known |= {service}
        self.has_condemned = self.has_condemned or verdict.action == "rollback"
        for place, index in level.items():
            if place[0] == service:
                key = (*place, index)
                self.observed = {**self.observed, key: self.observed.get(key, 0.0) + self._tick_s}

    def lets_in(self) -> None:
        """S4: a manifest is put in force."""
        if not self.is_admitted:
            raise Violation("S4", "a manifest was let in that admission had not allowed")

    # ---------------------------------------------------------------- effects

    def foresee(self, world: Any, action: Any, *, is_tearing_down: bool) -> None:
        """S1 of OPA; S10: nothing unproven goes up that a restart would forget. Where both slots are proven a restart
        goes on with what it finds.
        """
        if isinstance(action, StopContainer | RemoveContainer) and not is_tearing_down:
            self._answers_on(world, action.container_id)
        if isinstance(action, SetTraffic) and action.weight_pct > world.proxy.weights.get(action.service, 0):
            stored = world.store.disk.values.get("rollout.json")
            known = stored.of(action.service) if stored is not None else None
            if known is not None and known.weight_pct < action.weight_pct and known.phase.value not in NOT_UP:
                raise Violation(
                    "S10", f"{action.weight_pct} % of {action.service}, and a restart would know nothing of it"
                )

    def _answers_on(self, world: Any, ref: str) -> None:
        box = world.engine.boxes.get(ref)
        if box is None or box.labels.get("io.swiftdeploy.service") != POLICY or world.opa in ("down", "late"):
            return
        others = [each for each in world.engine.ours(POLICY) if each is not box]
        if world.is_well(box) and not any(map(world.is_well, others)):
            raise Violation("S1", f"{box.name} answers alone, and was to be stopped")

    def begun(self, world: Any, service: str, action: CreateContainer) -> None:
        """S4: the first container of a new image is made; the gate must have stood open for its manifest."""
        if world.in_force is not None and world.in_force.revision not in self.gates:
            raise Violation(
                "S4", f"{action.spec.image} of {service} was begun though the gate had not been open for it"
            )

    # ---------------------------------------------------------------- cycles

    def end(self, world: Any, cycle: Cycle, oracles: Any, *, is_calm: bool) -> None:
        """A cycle is over; counted where it was a clean one. Where nothing could be decided no clock moves on."""
        self._decided = self._at if cycle.decisions else self._decided
        is_clean = is_calm and not cycle.errors and len(world.fired) == self._fired and world.proxy.live is not None
        is_clean = is_clean and not world.proxy.hangs and not world.proxy.ignores and not world.engine.is_down
        if not is_clean or oracles.torn_down or world.in_force is not world.desired:
            self.at_nobody, self.unjudged, self.condemned = {}, {}, {}
            return
        self._count_at_nobody(world)
        self._count_unjudged(world, oracles)
        self._count_condemned(world, oracles)

    def _count_at_nobody(self, world: Any) -> None:
        """S1: requests go to nobody, though a container of the service has been well all the time; what was rolled back
        is sent none, whoever is left.
        """
        found, well = {}, world.well_by_address()
        stored = world.store.disk.values.get("rollout.json")
        for service in routes(world.proxy.live).default:
            lost = [a for a, _ in shares(world.proxy.live, world.proxy.weights, service) if a not in well]
            bad = stored.of(service).quarantined if stored is not None else ()
            others = [box for box in world.engine.ours(service) if box.labels.get(REVISION) not in bad]
            if lost and any(world.is_well(box) and world.engine.up_s(box) > 2.0 for box in others):
                found[service] = self.at_nobody.get(service, 0) + 1
        self.at_nobody = found
        for service, count in found.items():
            if count > AT_NOBODY:
                raise Violation(
                    "S1", f"requests of {service} have gone to nobody for {count} cycles, though others are well"
                )

    def _count_unjudged(self, world: Any, oracles: Any) -> None:
        """S4: an image on trial gets requests, and nobody has judged it for longer than its budget."""
        found = {}
        for service in routes(world.proxy.live).default:
            tried = [i for i in oracles.split(world, service) if (service, i) not in oracles.proven | oracles.free]
            if service not in self._known and set(tried) - {"nobody"}:
                found[service] = self.unjudged.get(service, 0) + 1
        self.unjudged = found
        for service, count in found.items():
            if count > UNJUDGED:
                raise Violation(
                    "S4", f"nobody has judged the canary of {service} for {count} cycles, and it gets requests"
                )

    def _count_condemned(self, world: Any, oracles: Any) -> None:
        """S16: what policy condemns has requests still, though there is something to go back to."""
        found = {}
        for place in oracles.condemned - oracles.free:
            service, image = place
            has_more = bool(oracles.images(world, service) - {image})
            if has_more and oracles.split(world, service).get(image, 0.0) > 0:
                found[place] = self.condemned.get(place, 0) + 1
        self.condemned = found
        for place, count in found.items():
            if count > CONDEMNED:
                raise Violation("S16", f"{place[1]} of {place[0]} was condemned {count} cycles ago, and gets requests")
