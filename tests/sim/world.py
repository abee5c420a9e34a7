"""One simulated host with the whole product on it.

Every effect goes through `World.effect`: there faults happen, and the oracles look before and after.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reconciler import executor
from reconciler.adapters.memory import Box
from reconciler.core import errors
from reconciler.core.containers import Layout
from reconciler.core.desired import PROXY, DesiredState
from reconciler.core.errors import Problem, StateError
from reconciler.core.observed import EngineState, Health, ObservedContainer, ObservedProxy, Status
from reconciler.core.plan import (
    HARMLESS,
    OK,
    Action,
    ConnectContainer,
    CreateContainer,
    EnsureNetwork,
    EnsureVolume,
    Outcome,
    Plan,
    RemoveContainer,
    RemoveNetwork,
    RemoveVolume,
    Result,
    SetRestartPolicy,
    StartContainer,
    StopContainer,
)
from reconciler.core.record import Cycle, HostFacts, Trigger, Verdict
from reconciler.core.words import Word
from reconciler.cycle import Memory, Setting, acting, run_cycle
from reconciler.ports import Loaded, Ports, ProbeTarget, Wanted
from tests.sim import policy
from tests.sim.clock import SimClock
from tests.sim.engine import OURS, SimEngine
from tests.sim.files import SimDisk, SimFiles, SimHistory, SimStore
from tests.sim.manifests import HELPERS, IMAGES, manifest
from tests.sim.oracles import Oracles
from tests.sim.proxy import SimProxy
from tests.sim.speed import SimPool, quickened
from tests.sim.traffic import SimTraffic

BOOT_S = 0.5
TICK_S = 1.0
LAYOUT = Layout("/state/rendered", "/state/run", "65534:65534")

RAISED: Mapping[str, Callable[[], Exception]] = {
    "raise EngineError": lambda: errors.EngineError("the engine answered 500", retryable=True),
    "raise EffectUnknown": lambda: errors.EffectUnknown("the connection broke"),
    "raise StateError": lambda: errors.StateError("input/output error"),
    "raise RenderError": lambda: errors.RenderError("a value must not go in"),
    "raise PolicyError": lambda: errors.PolicyError("OPA is down"),
    "raise HistoryError": lambda: errors.HistoryError("the chain is broken"),
    "raise Refused": lambda: errors.Refused("not now"),
    "raise ManifestError": lambda: errors.ManifestError([Problem("manifest.yaml", 1, 1, "odd")]),
    "raise OSError": lambda: OSError(24, "too many open files"),
    "raise MemoryError": MemoryError,
    "raise RecursionError": RecursionError,
}
FAULTS = ("crash before", "crash after", "lost", "timed out", "late", "failed", *RAISED)
"""What can happen to one effect. `lost`: it timed out and did not happen; `timed out`: it did; `late`: it will."""

AT_THE_ENGINE = (
    EnsureNetwork,
    RemoveNetwork,
    EnsureVolume,
    RemoveVolume,
    CreateContainer,
    StartContainer,
    StopContainer,
    RemoveContainer,
    ConnectContainer,
    SetRestartPolicy,
)
"""Calls that Docker goes on with though nobody waits for its answer any more."""


class Crash(BaseException):
    """The process is gone; what was done is done."""


class World:
    """A host, its people and the daemon. `faults` says by number what happens to which effect."""

    def __init__(self, first: str = "1") -> None:
        self.clock = SimClock()
        self.engine = SimEngine(self.clock)
        for reference in (*IMAGES, *HELPERS):
            self.engine.add_image(reference)
        self.files = SimFiles()
        self.proxy = SimProxy(self.files, self.clock)
        self.store = SimStore(SimDisk(self.written))
        self.history = SimHistory(self.written)
        self.traffic = SimTraffic(self)
        self.oracles = Oracles()
        self.most_replicas = 1
        self.ever: frozenset[str] = frozenset()
        self.may_blame = False
        self.is_dirty = False
        self.lives = 0
        self.is_newborn = True
        self.is_history_lost = False
        self.wants(first)
        self.memory = Memory()
        self.opa = "well"
        self.sick: frozenset[str] = frozenset()
        self.host_is_known = True
        self.effects = 0
        self.acts = 0
        self.cycles = 0
        self.faults: dict[int, str] = {}
        self.meddlers: dict[int, Callable[[World], None]] = {}
        self.fired: list[str] = []
        self.story: list[str] | None = None
        self.latest: Cycle | None = None
        self.pool = SimPool()
        self._connect()

    def _connect(self) -> None:
        self.setting = Setting(LAYOUT, self.pool)
        self.ports = Ports(
            source=_Source(self),
            runtime=_Runtime(self),
            prober=_Prober(self),
            proxy=_Proxy(self),
            files=_Files(self),
            policy=_Policy(self),
            host=_Host(self),
            rollouts=self.store,
            history=self.history,
            clock=self.clock,
            metrics=self.traffic,
            probes=self.traffic,
            instance=OURS,
        )

    def clone(self) -> World:
        """The same world once more; neither knows of the other."""
        twin = World.__new__(World)
        twin.clock = SimClock(self.clock.seconds, self.clock.jumped)
        twin.engine = self.engine.clone(twin.clock)
        twin.files = self.files.clone()
        twin.proxy = self.proxy.clone(twin.files, twin.clock)
        twin.store = self.store.clone(twin.written)
        twin.history = self.history.clone(twin.written)
        twin.traffic = self.traffic.clone(twin)
        twin.oracles = self.oracles.clone()
        for name in (
            "loaded",
            "asked",
            "memory",
            "opa",
            "sick",
            "host_is_known",
            "effects",
            "cycles",
            "latest",
            "most_replicas",
            "acts",
            "ever",
            "may_blame",
            "is_dirty",
            "lives",
            "is_newborn",
        ):
            setattr(twin, name, getattr(self, name))
        twin.faults, twin.meddlers = dict(self.faults), dict(self.meddlers)
        twin.fired, twin.story = list(self.fired), None
        twin.pool, twin.is_history_lost = SimPool(self.pool.turn), False
        twin._connect()
        return twin

    def ends(self) -> None:
        """Nobody needs it any more: what knows one another in it lets go, so that no collector has to look for it."""
        self.__dict__.clear()

    # ---------------------------------------------------------------- what happens

    def wants(self, words: str) -> None:
        """Somebody saves the manifest that `words` stand for."""
        self.asked = words
        desired = manifest(words)
        self.most_replicas = max(self.most_replicas, *(service.replicas for service in desired.services))
        self.ever |= set(words.split())
        self.oracles.wanted(words)
        self.loaded = Loaded(desired.revision, desired)

    def breaks_manifest(self) -> None:
        """Somebody saves half a manifest."""
        self.loaded = Loaded("broken", None, (Problem("manifest.yaml", 3, 1, "unexpected end"),), parsed=False)

    def restart(self) -> None:
        """The process ends and another one starts: only what is stored is left."""
        self.lives, self.is_newborn = self.lives + 1, True
        self.store = self.store.reopened()
        self.history.waiting = []
        rollout, good, evidence, _, commit = self.store.read()
        self.memory = Memory(rollout=rollout, last_good=good, evidence=evidence, commit=commit)
        self._connect()
        self.oracles.restarted(self)
        self.tell("the daemon starts")

    def cycle(self, *words: Word, tick_s: float = TICK_S) -> None:
        """One cycle; if the process dies in it, another one starts. Then time passes."""
        self.cycles += 1
        self.is_history_lost = False
        self.settle()
        self.oracles.begin_cycle(self)
        for word in words:
            self.oracles.told(self, word)
        trigger, real = Trigger("operator" if words else "interval"), acting.apply_plan
        acting.apply_plan = self._apply_plan
        try:
            with quickened():
                cycle, self.memory = run_cycle(self.ports, self.setting, self.memory, trigger, words)
        except Crash:
            self.latest = None
            self.tell("the daemon is killed")
            self.oracles.unheard(self)
            self.restart()
        else:
            self.latest, self.is_newborn = cycle, False
            self.oracles.end_cycle(self, cycle)
            if self.story is not None:
                self._tell_cycle(cycle)
        finally:
            acting.apply_plan = real
        self.passes(tick_s)

    def _apply_plan(self, plan: Plan, *rest: Any) -> tuple[Result, ...]:
        self.oracles.plans(self, plan)
        return executor.apply_plan(plan, *rest)

    def passes(self, seconds: float) -> None:
        """Time passes, and requests flow."""
        self.traffic.flow()
        self.clock.seconds += seconds

    def settle(self) -> None:
        """nginx follows its container and the time; without a fit configuration it ends, and Docker tries on."""
        boxes = self.engine.ours(PROXY)
        for box in boxes:
            if box.status is Status.RESTARTING and self.proxy.can_start():
                self.engine.start_by_hand(box)
        box = next((box for box in boxes if box.status is Status.RUNNING), None)
        if box is not None and self.proxy.is_new(box.id, box.pid) and not self.proxy.can_start():
            box.status, box.pid, box.exit_code, box.restarts = Status.RESTARTING, 0, 1, box.restarts + 1
            box = None
        self.proxy.settle(box.id if box else "", box.pid if box else 0)

    # ---------------------------------------------------------------- effects

    def effect(self, name: str, action: Any, do: Callable[[], Result]) -> Result:
        """Carry out one effect as the schedule says; the oracles look before and after."""
        fault = self._next(name)
        if fault is None:
            return self._watched(action, do)
        if fault == "crash before":
            raise Crash
        if fault == "crash after":
            self._watched(action, do)
            raise Crash
        if fault == "late" and isinstance(action, AT_THE_ENGINE):
            self.oracles.foresee(self, action)
            self.engine.late.append(action)
            return Result(Outcome.UNKNOWN, "no answer within 30 s")
        if fault in ("timed out", "late"):
            self._watched(action, do)
            return Result(Outcome.UNKNOWN, "no answer within 30 s")
        if fault == "lost":
            return Result(Outcome.UNKNOWN, "no answer within 30 s")
        if fault == "failed":
            return Result(Outcome.FAILED, "the engine answered 500: something broke inside")
        raise RAISED[fault]()

    def written(self, name: str, do: Callable[[], None]) -> None:
        """Write one file of the state directory as the schedule says."""
        fault = self._next(name)
        if name == "save last-good.json":
            self.oracles.watch.lets_in()
        if fault is None:
            try:
                do()
            except StateError:
                self.is_history_lost = True
                raise
            return
        if fault == "crash before":
            raise Crash
        self.is_history_lost = True
        if fault in ("crash after", "timed out"):
            do()
        if fault == "crash after":
            raise Crash
        raise StateError(f"{name}: input/output error")

    def _next(self, name: str) -> str | None:
        number, self.effects = self.effects, self.effects + 1
        meddler = self.meddlers.pop(number, None)
        if meddler is not None:
            self.oracles.surprise(self)
            lives = self.lives
            meddler(self)
            if self.lives != lives:
                raise Crash
        fault = self.faults.pop(number, None)
        if fault is not None:
            self.fired.append(f"{fault}: {name}")
        if self.story is not None:
            self.story.append(f"      {number} {name}{f'  << {fault}' if fault else ''}")
        return fault

    def _watched(self, action: Any, do: Callable[[], Result]) -> Result:
        self.acts += action is not None and not isinstance(action, HARMLESS)
        self.oracles.foresee(self, action)
        result = do()
        self.oracles.look(self, action)
        return result

    # ---------------------------------------------------------------- what is so

    def is_well(self, box: Box) -> bool:
        """It runs, has had the time to start, and its image is not sick."""
        if box.status is not Status.RUNNING or box.request.spec.image in self.sick:
            return False
        return self.engine.up_s(box) >= BOOT_S

    def well_by_address(self) -> dict[str, Box]:
        """Whoever answers, by address."""
        return {a: box for box in self.engine.boxes.values() if self.is_well(box) for a in box.endpoints.values() if a}

    @property
    def in_force(self) -> DesiredState | None:
        """The manifest that was let in last, as the disk has it."""
        found: DesiredState | None = self.store.disk.values.get("last-good.json")
        return found

    @property
    def desired(self) -> DesiredState:
        """The manifest that people asked for last."""
        return manifest(self.asked)

    def tell(self, words: str) -> None:
        """For the story, where somebody listens."""
        if self.story is not None:
            self.story.append(f"{self.clock.seconds:8.1f} s  {words}")

    def _tell_cycle(self, cycle: Cycle) -> None:
        states = ", ".join(f"{n} {s.phase.words} {s.weight_pct} %" for n, s in cycle.rollout.services.items())
        self.tell(f"cycle {self.cycles}: {states or 'nothing yet'}")
        assert self.story is not None
        said = [f"{d.service}: {d.move} {d.reason}" for d in cycle.decisions if d.reason]
        done = zip(cycle.plan.steps, cycle.results, strict=True)
        said += [f"{step} = {result.outcome} {result.detail}" for step, result in done]
        self.story += [f"        {line}" for line in (*said, *cycle.errors, *map(str, cycle.problems))]


class _Port:
    def __init__(self, world: World) -> None:
        self.world = world


class _Source(_Port):
    def load(self) -> Loaded:
        return self.world.loaded


class _Runtime(_Port):
    def observe(self, wanted: Wanted) -> EngineState:
        if self.world.engine.lag:
            self.world.oracles.mislead(self.world)
        found = self.world.engine.observe(wanted)
        if self.world.engine.late:
            self.world.oracles.surprise(self.world)
            self.world.engine.happen_late()
            self.world.settle()
        return found

    def apply(self, action: Action) -> Result:
        return self.world.effect(type(action).__name__, action, lambda: self._apply(action))

    def _apply(self, action: Action) -> Result:
        result = self.world.engine.apply(action)
        self.world.settle()
        return result

    def logs(self, container_id: str, *, tail: int, follow: bool) -> Any:
        return self.world.engine.logs(container_id, tail=tail, follow=follow)

    def facts(self) -> Any:
        return self.world.engine.facts()

    def forget_image_failures(self) -> None:
        self.world.engine.forget_image_failures()


class _Prober(_Port):
    def probe(self, targets: Sequence[ProbeTarget]) -> Mapping[str, tuple[Health, str]]:
        boxes, found = self.world.engine.boxes, {}
        for target in targets:
            box = boxes.get(target.container.id)
            is_reached = box is not None and (target.port is None or any(box.endpoints.values()))
            is_well = box is not None and is_reached and self.world.is_well(box)
            found[target.container.id] = (Health.READY, "") if is_well else (Health.SICK, "503")
        return found


class _Proxy(_Port):
    def observe(self, container: ObservedContainer | None, services: Sequence[str]) -> ObservedProxy:
        return self.world.proxy.observe(container, services)

    def apply(self, action: Any) -> Result:
        return self.world.effect(type(action).__name__, action, lambda: self.world.proxy.apply(action))


class _Files(_Port):
    def digests(self) -> Mapping[str, str]:
        return self.world.files.digests()

    def apply(self, action: Any) -> Result:
        name = f"{type(action).__name__} {action.path}"
        result = self.world.effect(name, action, lambda: self.world.files.apply(action))
        if result is OK:
            self.world.files.before = []
        return result


class _Policy(_Port):
    def prepare(self, revision: str) -> Result:
        return self.world.effect("PreparePolicy", None, lambda: OK)

    def ready(self, revision: str) -> tuple[bool, str]:
        is_there = self.world.opa != "down" and policy.listens(self.world, revision)
        return is_there, "" if is_there else "nobody listens"

    def evaluate(self, domain: str, question: Mapping[str, Any], revision: str) -> Verdict:
        mode = self.world.opa if policy.listens(self.world, revision) else "down"
        verdict = policy.answer(mode, domain, question, revision)
        self.world.oracles.heard(self.world, domain, question, verdict)
        return verdict


class _Host(_Port):
    def facts(self, disk_path: str | None) -> HostFacts:
        known = self.world.host_is_known
        return HostFacts(50.0 if known else None, 0.5, 40.0, 4, disk_path or "/")

    def free_subnet(self, taken: Sequence[str]) -> tuple[str, str] | None:
        found = next((n for n in range(9, 20) if f"10.{n}.0.0/22" not in taken), None)
        return None if found is None else (f"10.{found}.0.0/22", f"10.{found}.3.0/24")
