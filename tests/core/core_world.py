"""One host in memory for the pure core: what is decided and planned is done, and an oracle follows the requests.

The oracle reads what nginx was told (addresses, default slot, weight), not the planner's mind.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime

from reconciler.core.containers import KeptRevision
from reconciler.core.decide import Context, advance, decide, wish_changed
from reconciler.core.desired import Mode, RolloutSpec, Service
from reconciler.core.membership import of_group, recall, remember, shown_slots, without_vanished
from reconciler.core.observed import Health, ObservedContainer, ObservedProxy, ObservedState, Slot, Status
from reconciler.core.plan import (
    CreateContainer,
    Plan,
    ReloadProxy,
    RemoveContainer,
    SetRestartPolicy,
    SetTraffic,
    StartContainer,
    StopContainer,
    WaitHealthy,
    WaitProxy,
    WriteFile,
)
from reconciler.core.planner import PROXY_CONFIG, Wish, make_plan, sha256
from reconciler.core.record import Verdict
from reconciler.core.rollout import TRANSITIONS, Decision, Move, Phase, Rollout, ServiceRollout
from reconciler.core.trial import trials
from reconciler.core.words import Word, hear
from tests.builders import IMAGES, STEPS, desired, image, kept, nginx, observed, opa, service, targets

IMAGES.setdefault("demo:3", image("demo:3"))
CAREFUL = RolloutSpec(steps=STEPS, watch_s=120.0)
V1, V2, V3 = (service(image=f"demo:{n}", rollout=CAREFUL) for n in (1, 2, 3))
ALLOW = Verdict("infrastructure", True, "")
PROMOTE = Verdict("canary", True, "within all limits", action="promote")
HOLD = Verdict("canary", False, "too few requests", action="hold")
ROLLBACK = Verdict("canary", False, "Error rate exceeds 1% threshold", action="rollback")
UNKNOWN = Verdict("canary", False, "OPA is not reachable", known=False)

Config = tuple[Slot, dict[Slot, tuple[str, ...]]]
"""What nginx was told: its default slot, and the addresses of both."""


def with_mode(of: Service, mode: Mode) -> Service:
    return dataclasses.replace(of, mode=mode)


class CoreWorld:
    """A host with nginx and OPA. `sick` are images (or "image mode") whose containers run and answer badly.

    A container answers well `start_s` after its start. A reload shows in the next cycle, and the old workers serve
    what they knew for `drain_s` more.
    """

    drain_s = 1.5
    start_s = 3.0

    def __init__(self, wanted: Service = V1, tick_s: float = 5.0) -> None:
        self.now, self.tick_s = 1_000_000.0, tick_s
        self.rollout = Rollout(subnet="10.1.0.0/22", ip_range="10.1.3.0/24")
        self.boxes: dict[str, ObservedContainer] = {}
        self.image_of: dict[str, str] = {}
        self.stored: dict[str, KeptRevision] = {}
        self.sick: set[str] = set()
        self.weights: dict[str, int] = {}
        self.disk: Config = (Slot.BLUE, {Slot.BLUE: (), Slot.GREEN: ()})
        self.live = self.disk
        self.coming: Config | None = None
        self.old: list[tuple[Config, float]] = []
        self.nginx_began = self.now
        self.verdict: Verdict | None = PROMOTE
        self.gate: Verdict | None = ALLOW
        self.moves: list[tuple[Phase, Move, Phase]] = []
        self.decisions: list[Decision] = []
        self.plans: list[Plan] = []
        self.wants(wanted)

    # ---------------------------------------------------------------- what happens

    def wants(self, *services: Service) -> None:
        self.desired = desired(*services)
        self.stored |= {kept(one).revision: kept(one) for one in services if one.image in IMAGES}
        self.targets = targets(self.desired, tuple(self.stored.values()))

    def hear(self, word: Word) -> None:
        self.rollout = hear(self.rollout, word)

    def passes(self, seconds: float) -> None:
        self.now += seconds

    def dies(self, name: str, exit_code: int = 137) -> None:
        self.change(name, status=Status.EXITED, exit_code=exit_code, finished_at=moment(self.now))

    def change(self, name: str, **changes: object) -> None:
        self.boxes[name] = dataclasses.replace(self.boxes[name], **changes)  # type: ignore[arg-type]

    def reboots(self) -> None:
        """Everything ends, and Docker starts again what it was told to restart."""
        down, self.now = self.now, self.now + 30.0
        for name, box in self.boxes.items():
            if box.status is Status.RUNNING:
                self.change(name, status=Status.EXITED, exit_code=137, finished_at=moment(down))
                if box.restart_policy != "no":
                    self.change(name, status=Status.RUNNING, started_at=moment(self.now))
        self.nginx_began, self.live, self.coming, self.old = self.now, self.disk, None, []

    def forgets_everything(self) -> None:
        self.rollout = Rollout(subnet=self.rollout.subnet, ip_range=self.rollout.ip_range)

    # ---------------------------------------------------------------- one pass

    def cycle(self) -> ServiceRollout:
        """See, decide, plan and do, as a cycle does; then time passes. The state of `app` after it."""
        seen = self.observed()
        names = {one.name for one in self.desired.services}
        before = without_vanished(recall(self.rollout, seen, self.targets.wanted), seen, names)
        before = wish_changed(before, self.targets)
        judged = [t.service.name for t in trials(self.desired, before, seen) if t.is_judged]
        verdicts = {name: self.verdict for name in judged if self.verdict is not None}
        decisions = decide(before, Context(self.targets, seen, self.now, self.gate, verdicts))
        after = advance(before, decisions, self.now)
        self._noted(before, decisions, after)
        self.rollout = remember(after, seen, {one.name: one.replicas for one in self.desired.services})
        config = self.config()
        wish = Wish(self.desired, self.targets, "inst", {PROXY_CONFIG: repr(config)}, sha256(repr(config)))
        plan = make_plan(wish, seen, self.rollout)
        self.plans.append(plan)
        self.watch_plan(plan, seen)
        self.apply(plan, config)
        self.now += self.tick_s
        return self.app

    def until(self, true: Callable[[ServiceRollout], bool], limit: int = 200) -> ServiceRollout:
        """Cycles until one leaves the state as wanted."""
        for _ in range(limit):
            if true(self.cycle()):
                return self.app
        raise AssertionError(f"never came true: {self.app}\nlast plan:\n{self.plans[-1]}")

    def reaches(self, phase: Phase, limit: int = 200) -> ServiceRollout:
        return self.until(lambda state: state.phase is phase, limit)

    def rests(self, limit: int = 200) -> ServiceRollout:
        """Cycles until nothing is left to do."""
        return self.until(lambda state: state.phase in (Phase.STABLE, Phase.ABSENT) and not self.plans[-1], limit)

    def _noted(self, before: Rollout, decisions: tuple[Decision, ...], after: Rollout) -> None:
        self.decisions = list(decisions)
        for decision in decisions:
            if decision.move is not Move.HOLD:
                was, now = before.of(decision.service).phase, after.of(decision.service).phase
                assert now in TRANSITIONS[was, decision.move], f"{was} –{decision.move}→ {now}"
                self.moves.append((was, decision.move, now))

    # ---------------------------------------------------------------- what is so

    @property
    def app(self) -> ServiceRollout:
        return self.rollout.of("app")

    @property
    def weight(self) -> int | None:
        return self.weights.get("app")

    @property
    def front(self) -> ServiceRollout:
        """Who serves the one route: the service of the manifest once it can, until then what it replaces."""
        wanted = self.rollout.of(self.desired.services[0].name)
        return wanted if wanted.stable or self.app.stable is None else self.app

    @property
    def said(self) -> Decision:
        return next(d for d in self.decisions if d.service == "app")

    def path(self) -> str:
        """The phases gone through, in a line."""
        first = self.moves[0][0] if self.moves else self.app.phase
        return " ".join([first, *(phase for _, _, phase in self.moves)])

    def observed(self) -> ObservedState:
        if self.coming is not None:
            self.old.append((self.live, self.now + self.drain_s))
            self.live, self.coming = self.coming, None
        self.old = [(config, until) for config, until in self.old if self.now < until]
        boxes = tuple(dataclasses.replace(box, health=self.health(box)) for box in self.boxes.values())
        retiring_s = 0.5 if self.old else 0.0
        named = frozenset(address for addresses in self.live[1].values() for address in addresses)
        proxy = ObservedProxy(sha256(repr(self.live)), len(self.old), retiring_s, dict(self.weights), named=named)
        files = {PROXY_CONFIG: sha256(repr(self.disk)), "opa/pppp/data.json": sha256("{}\n")}
        master = nginx(started_at=moment(self.nginx_began))
        return observed(*boxes, master, opa(started_at=moment(self.nginx_began)), proxy=proxy, files=files)

    def health(self, box: ObservedContainer) -> Health:
        if box.status is not Status.RUNNING:
            return Health.UNKNOWN
        picture = self.image_of[box.name]
        is_young = box.uptime_s(self.now) < self.start_s
        return Health.SICK if is_young or not self.sick.isdisjoint({picture, f"{picture} {box.mode}"}) else Health.READY

    def is_well(self, name: str) -> bool:
        return self.health(self.boxes[name]) is Health.READY

    def running(self) -> list[str]:
        """Image and mode of what runs, sorted."""
        return sorted(f"{self.image_of[b.name]} {b.mode}" for b in self.boxes.values() if b.status is Status.RUNNING)

    def names(self, picture: str, mode: str) -> list[str]:
        return [b.name for b in self.boxes.values() if self.image_of[b.name] == picture and b.mode == mode]

    def config(self) -> Config:
        """As nginx's configuration is rendered: a slot that is not shown repeats the other."""
        state = self.front
        members = {slot: tuple(m.address for m in state.members(slot)) for slot in shown_slots(state)}
        if set(members) == {state.serving.other}:
            members[state.serving] = members[state.serving.other]
        default = members.get(state.serving, ())
        own = {slot: members.get(slot, default if slot is not state.serving else ()) for slot in Slot}
        return state.serving, {slot: own[slot] or (default if slot is not state.serving else ()) for slot in Slot}

    def used(self, config: Config, weight: int | None = None) -> list[frozenset[str]]:
        """The sets of addresses that requests are spread over."""
        serving, members = config
        weight = self.weights.get(self.front.service, 0) if weight is None else weight
        shares = ((serving, 100 - weight), (serving.other, weight))
        return [frozenset(members[slot]) for slot, share in shares if share]

    def sends_to(self) -> frozenset[str]:
        """Every address that some worker of nginx, old or new, sends requests to."""
        return frozenset().union(*(s for c in (self.live, *(old for old, _ in self.old)) for s in self.used(c)))

    def well(self) -> frozenset[str]:
        return frozenset(box.address for name, box in self.boxes.items() if self.is_well(name) and box.address)

    def serves(self, config: Config, weight: int | None = None) -> bool:
        return all(addresses & self.well() for addresses in self.used(config, weight))

    # ---------------------------------------------------------------- the oracle

    def watch_plan(self, plan: Plan, seen: ObservedState) -> None:
        """No plan takes stable's containers away before a ready candidate has every request."""
        state = self.app
        if self.rollout.torn_down or state.stable is None:
            return
        stable = {c.id: c for c in of_group(seen, "app", state.stable) if c.is_ready}
        has_all = self.weight == 100 and any(c.is_ready for c in of_group(seen, "app", state.candidate))
        count = next((one.replicas for one in self.desired.services if one.name == "app"), None)
        for step in plan.steps:
            if isinstance(step.action, StopContainer | RemoveContainer) and step.action.container_id in stable:
                gone = stable[step.action.container_id]
                is_spare = count is None or (gone.replica or 0) >= count
                is_turn = state.phase is Phase.UPDATING
                is_back = state.serving is not gone.slot and state.phase is Phase.TURNING
                assert has_all or is_spare or is_turn or is_back, f"{state.phase}, {self.weight} %: {step}"

    def foresee(self, container_id: str) -> None:
        """Before an act: it must not take away a healthy container that gets requests."""
        box = next((b for b in self.boxes.values() if b.id == container_id), None)
        if box is None or self.rollout.torn_down or not self.is_well(box.name):
            return
        others = self.sends_to() & self.well() - {box.address}
        is_recreated = self.app.phase in (Phase.UPDATING, Phase.ROLLING_BACK) and not others
        assert box.address not in self.sends_to() or is_recreated, f"{box.name} still gets requests"

    # ---------------------------------------------------------------- doing it

    def apply(self, plan: Plan, config: Config) -> None:
        done: list[bool] = []
        for step in plan.steps:
            done.append(all(done[i] for i in step.after) and self._do(step.action, config))

    def _do(self, action: object, config: Config) -> bool:
        match action:
            case StopContainer(container_id=ref) | RemoveContainer(container_id=ref) if ref in ("id-nginx", "id-opa"):
                return True  # torn down: of no interest here
            case CreateContainer(name=name, spec=spec, address=address, labels=labels):
                self._create(name, spec.image, spec.restart_policy, address, dict(labels))
            case StartContainer(container=ref):
                self.change(self._named(ref), status=Status.RUNNING, started_at=moment(self.now), exit_code=None)
            case WaitHealthy(container=ref):
                return self.is_well(self._named(ref))
            case StopContainer(container_id=ref):
                self.foresee(ref)
                self.dies(self._named(ref), 0)
            case RemoveContainer(container_id=ref):
                self.foresee(ref)
                del self.boxes[self._named(ref)]
            case SetRestartPolicy(container_id=ref, policy=policy):
                self.change(self._named(ref), restart_policy=policy)
            case WriteFile(path=path) if path == PROXY_CONFIG:
                was_served = self.serves(self.live)
                assert not was_served or self.serves(config), f"nobody well is left in nginx: {self.app}"
                self.disk = config
            case ReloadProxy():
                self.coming = self.disk
                return False
            case WaitProxy(config_hash=wanted, drained=drained):
                return sha256(repr(self.live)) == wanted and not (drained and self.old)
            case SetTraffic(service=name, weight_pct=weight):
                was_served = self.serves(self.live)
                assert not was_served or self.serves(self.live, weight), f"{weight} % to nobody well: {self.app}"
                self.weights[name] = weight
        return True

    def _create(self, name: str, picture: str, policy: str, address: str | None, labels: dict[str, str]) -> None:
        assert name not in self.boxes, f"{name} exists"
        mine = {key.removeprefix("io.swiftdeploy."): value for key, value in labels.items()}
        self.image_of[name] = picture
        self.boxes[name] = ObservedContainer(
            id=f"id-{name}",
            name=name,
            service=mine["service"],
            revision=mine["revision"],
            status=Status.CREATED,
            slot=Slot(mine["slot"]),
            replica=int(mine["replica"]),
            mode=mine["mode"],
            generation=int(mine["generation"]),
            address=address,
            networks=("net1",),
            restart_policy=policy,
        )

    def _named(self, ref: str) -> str:
        return next(name for name, box in self.boxes.items() if ref in (name, box.id))


def moment(now: float) -> str:
    """As Docker writes it."""
    return datetime.fromtimestamp(now, UTC).isoformat()
