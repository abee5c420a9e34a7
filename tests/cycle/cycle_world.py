"""A whole host in memory for whole cycles: small working fakes of every port, and an oracle that watches traffic.

The oracle reads nginx's text, not the planner's mind: after the first release was proven, no act of ours may take a
healthy container away while any nginx worker, old or new, sends it requests.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from reconciler.adapters.memory import MemoryEngine, MemoryFiles
from reconciler.core.containers import KeptRevision
from reconciler.core.desired import POLICY, PROXY, DesiredState
from reconciler.core.errors import Problem, RenderError, StateError
from reconciler.core.evidence import Evidence
from reconciler.core.evidence.readings import Counted, Reading, Unread
from reconciler.core.observed import Health, ObservedContainer, ObservedProxy, Status
from reconciler.core.plan import (
    OK,
    Action,
    Outcome,
    PrepareProxy,
    ReloadProxy,
    RemoveContainer,
    Result,
    SetTraffic,
    StopContainer,
    TestProxyConfig,
)
from reconciler.core.planner import PROXY_CONFIG
from reconciler.core.provenance import Commit
from reconciler.core.record import Cycle, HostFacts, Trigger, Verdict
from reconciler.core.rollout import Phase, Rollout, ServiceRollout
from reconciler.core.words import Word
from reconciler.cycle import Memory, Setting, run_cycle
from reconciler.formats.nginx import config_hash
from reconciler.ports import Loaded, MeasureTarget, Ports, ProbeTarget
from tests.builders import LAYOUT, desired, service

STEP_S = 0.1
V1 = desired(revision="1" * 64)
V2 = desired(service(image="demo:2"), revision="2" * 64)
V3 = desired(service(image="demo:3"), revision="3" * 64)


class HandClock:
    """Time that passes when told to; its epoch is where the memory engine's containers begin."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.set_by_s = 0.0

    def now(self) -> float:
        return 946684800.0 + self.seconds + self.set_by_s

    def monotonic(self) -> float:
        return self.seconds

    def timestamp(self) -> str:
        return f"2000-01-01T{int(self.seconds) // 3600:02}:{int(self.seconds) // 60 % 60:02}:{self.seconds % 60:06.3f}Z"


class OneAfterAnother(ThreadPoolExecutor):
    """A pool that runs everything at once and in order, so that a crash can be put at an exact place."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


class SlowNginx:
    """nginx whose reload shows after `lag_s`, and whose old workers serve their old text for `drain_s` more."""

    lag_s, drain_s = 0.15, 0.15

    def __init__(self, files: MemoryFiles, clock: HandClock) -> None:
        self.weights: dict[str, int] = {}
        self.live: str | None = None
        self.old: list[tuple[str, float]] = []
        self._files, self._clock = files, clock
        self._coming: float | None = None
        self._reloaded = 0.0
        self._run: tuple[str, int] | None = None

    def observe(self, container: ObservedContainer | None, services: Sequence[str]) -> ObservedProxy:
        weights = {name: self.weights[name] for name in services if name in self.weights}
        if container is None:
            self._run, self.live, self.old, self._coming = None, None, [], None
            return ObservedProxy(weights=weights)
        if self._run != (container.id, container.pid):
            self._run, self.live = (container.id, container.pid), self._files.texts.get(PROXY_CONFIG)
            self.old, self._coming = [], None
        self._turn()
        retiring = len(self.old) + (self._coming is not None)
        for_s = self._clock.monotonic() - self._reloaded if retiring else 0.0
        return ObservedProxy(config_hash(self.live) if self.live else None, retiring, for_s, weights)

    def _turn(self) -> None:
        now = self._clock.monotonic()
        if self._coming is not None and now >= self._coming:
            self.old += [(self.live, self._coming + self.drain_s)] if self.live else []
            self.live, self._coming = self._files.texts[PROXY_CONFIG], None
        self.old = [(text, until) for text, until in self.old if now < until]

    def apply(self, action: PrepareProxy | TestProxyConfig | ReloadProxy | SetTraffic) -> Result:
        match action:
            case PrepareProxy():
                self.weights = dict.fromkeys(action.services, 0) | self.weights
            case TestProxyConfig():
                try:
                    config_hash(action.content)
                except RenderError as error:
                    return Result(Outcome.FAILED, str(error))
            case ReloadProxy():
                if self._run is None:
                    return Result(Outcome.FAILED, "nginx does not run")
                self._reloaded = self._clock.monotonic()
                self._coming = self._reloaded + self.lag_s
            case SetTraffic():
                self.weights[action.service] = action.weight_pct
        return OK

    def sends_to(self) -> Iterator[frozenset[str]]:
        """For each generation of workers, the addresses that get requests."""
        for text in (self.live, *(text for text, _ in self.old)):
            default = re.search(r"set \$up (\S+)-(blue|green);", text or "")
            if text and default:
                name, slot = default.groups()
                other = "green" if slot == "blue" else "blue"
                weight = self.weights.get(name, 0)
                slots = {slot: weight < 100, other: weight > 0}
                yield frozenset().union(*(_members(text, f"{name}-{s}") for s, used in slots.items() if used))


def _members(text: str, upstream: str) -> frozenset[str]:
    block = re.search(rf"upstream {upstream} \{{(.*?)\}}", text, re.DOTALL)
    return frozenset(re.findall(r"server ([0-9.]+):", block[1])) if block else frozenset()


class Traffic:
    """Requests as nginx would send them, counted by the containers: an exact split, no chance in it.

    `rate` is requests a second in all; `errors` and `slow` are shares by image. `is_silent`: nobody can be read.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.rate = 0.0
        self.errors: dict[str, float] = {}
        self.slow: dict[str, float] = {}
        self.proxy_errors: dict[str, float] = {}
        self.is_silent = False
        self.probed: set[Any] = set()
        self._counts: dict[str, list[float]] = {}
        self._at = 0.0

    def set(self, slots: Any) -> None:
        self.probed = {(service.name, slot) for service, slot in slots if service.rollout.probe_path}

    def flow(self) -> None:
        """Let the time since the last look pass."""
        now = self.world.clock.monotonic()
        passed, self._at = now - self._at, now
        requests = self.rate * passed
        probes = 10.0 * passed
        for box_id, count in [*((b, requests * share) for b, share in self._shares().items()), *self._probed(probes)]:
            counts = self._counts.setdefault(box_id, [0.0, 0.0, 0.0])
            image = self.world.engine.boxes[box_id].request.spec.image
            for i, part in enumerate((1.0, self.errors.get(image, 0.0), self.slow.get(image, 0.0))):
                counts[i] += count * part

    def _probed(self, count: float) -> Iterator[tuple[str, float]]:
        """Our own requests, to the members that nginx lists in each slot."""
        by_address = {
            a: box.id for box in self.world.boxes() if self.world.is_well(box) for a in box.endpoints.values()
        }
        for name, slot in self.probed:
            there = [by_address[a] for a in _members(self.world.nginx.live or "", f"{name}-{slot}") if a in by_address]
            yield from ((box_id, count / len(there)) for box_id in there)

    def _shares(self) -> dict[str, float]:
        text = self.world.nginx.live
        default = re.search(r"set \$up (\S+)-(blue|green);", text or "")
        if text is None or default is None:
            return {}
        name, slot = default.groups()
        weight = self.world.nginx.weights.get(name, 0) / 100
        by_address = {
            a: box.id for box in self.world.boxes() if self.world.is_well(box) for a in box.endpoints.values()
        }
        shares: dict[str, float] = {}
        for where, part in ((slot, 1 - weight), ("green" if slot == "blue" else "blue", weight)):
            there = [by_address[a] for a in _members(text, f"{name}-{where}") if a in by_address]
            for box_id in there:
                shares[box_id] = shares.get(box_id, 0.0) + part / len(there)
        return shares

    def read(self, targets: Sequence[MeasureTarget], proxy: ObservedContainer | None) -> Mapping[str, Counted]:
        self.flow()
        return {t.container.id: Counted(self._reading(t.container), self._by_proxy(t.container)) for t in targets}

    def _by_proxy(self, container: ObservedContainer) -> Reading | Unread:
        """nginx's own count, where a test is about what it sees and the service does not say."""
        box = self.world.engine.boxes.get(container.id)
        found = self._reading(container)
        if not self.proxy_errors or box is None or isinstance(found, Unread):
            return Unread("not counted", is_absent=True)
        share = self.proxy_errors.get(box.request.spec.image, 0.0)
        total = sum(found.requests.values())
        return dataclasses.replace(found, requests={"": total}, errors={"": int(total * share)}, mode="", chaos="")

    def _reading(self, container: ObservedContainer) -> Reading | Unread:
        if self.is_silent:
            return Unread("connection refused")
        total, failed, slow = (int(n + 1e-6) for n in self._counts.get(container.id, [0.0, 0.0, 0.0]))
        now = self.world.clock.now()
        began = now - container.uptime_s(now)
        buckets = ((0.5, total - slow), (float("inf"), total))
        return Reading(now, began, {"/": total}, {"/": failed}, buckets, now - began, container.mode, "none")


class Store:
    """A rollout store that forgets nothing but what it was never given."""

    def __init__(self, around: Callable[[str], None]) -> None:
        self._around = around
        self.rollout = Rollout()
        self.revisions: dict[str, KeptRevision] = {}
        self.good: DesiredState | None = None
        self.kept_evidence: Mapping[str, Evidence] = {}
        self.traced: dict[str, Commit | None] = {}
        self.is_full = False

    def load(self) -> Rollout:
        return self.rollout

    def save(self, rollout: Rollout) -> None:
        if rollout != self.rollout:
            self._room("save")
            self.rollout = rollout
            self._around("after save")

    def evidence(self) -> Mapping[str, Evidence]:
        return self.kept_evidence

    def save_evidence(self, services: Mapping[str, Evidence]) -> None:
        self._room("save evidence")
        self.kept_evidence = {**self.kept_evidence, **services}

    def kept(self) -> tuple[KeptRevision, ...]:
        return tuple(self.revisions.values())

    def keep(self, revision: KeptRevision) -> None:
        if revision.revision not in self.revisions:
            self._room("keep")
        self.revisions[revision.revision] = revision

    def last_good(self) -> DesiredState | None:
        return self.good

    def admit(self, desired: DesiredState) -> None:
        self._room("admit")
        self.good = desired
        self._around("after admit")

    def commit_of(self, desired: DesiredState | None) -> Commit | None:
        return self.traced.get(desired.revision) if desired is not None else None

    def trace(self, desired: DesiredState, commit: Commit | None) -> None:
        if commit is not None or self.traced:
            self.traced = {desired.revision: commit}

    def forget_all_but(self, revisions: Any) -> None:
        self.revisions = {name: self.revisions[name] for name in self.revisions if name in set(revisions)}

    def _room(self, name: str) -> None:
        self._around(f"before {name}")
        if self.is_full:
            raise StateError("rollout.json: no space left on the device")


class World:
    """One host. `around` is called before and after every act with its name; what it raises ends the process."""

    def __init__(self, pool: ThreadPoolExecutor | None = None) -> None:
        self.clock = HandClock()
        self.engine = MemoryEngine(instance="inst", monotonic=self.clock.monotonic)
        for reference in ("demo:1", "demo:2", "demo:3", "nginx:1.30", "openpolicyagent/opa:1.19.0-static"):
            self.engine.add_image(reference)
        self.files = MemoryFiles()
        self.nginx = SlowNginx(self.files, self.clock)
        self.store = Store(lambda name: self.around(name))
        self.loaded = Loaded("", V1)
        self.records: list[Mapping[str, Any]] = []
        self.verdicts: dict[str, Verdict] = {}
        self.traffic = Traffic(self)
        self.asked: list[str] = []
        self.sick: set[str] = set()
        self.opa_answers = True
        self.history_is_full = False
        self.around: Callable[[str], None] = lambda _name: None
        self.broken: list[str] = []
        self.cycles: list[Cycle] = []
        self._was_stable = False
        self.setting = Setting(LAYOUT, pool or OneAfterAnother(1))
        watched = _Watched(self)
        self.ports = Ports(
            source=_Source(self),
            runtime=watched,
            prober=_Prober(self),
            proxy=_Proxy(self),
            files=_Files(self),
            policy=_Policy(self),
            host=_Host(),
            rollouts=self.store,
            history=_History(self),
            clock=self.clock,
            metrics=self.traffic,
            probes=self.traffic,
            instance="inst",
        )
        self.memory = Memory()

    # ---------------------------------------------------------------- what happens

    def wants(self, desired: DesiredState | None, *problems: str, settled: bool = True) -> None:
        """Somebody saves a manifest; with problems it cannot be used."""
        found = tuple(Problem("manifest.yaml", 1, 1, problem) for problem in problems)
        self.loaded = Loaded(desired.revision if desired else repr(problems), desired, found, settled=settled)

    def restart(self) -> None:
        """The process ends and another one starts: only what is stored is left."""
        good = self.store.last_good()
        self.memory = Memory(
            rollout=self.store.load(),
            last_good=good,
            evidence=self.store.evidence(),
            commit=self.store.commit_of(good),
        )

    def says(self, domain: str, *, allow: bool, reason: str = "", known: bool = True, action: str = "") -> None:
        action = action or ("promote" if allow else "hold")
        self.verdicts[domain] = Verdict(domain, allow, reason, known=known, action=action)

    def cycle(self, *words: Word, kind: str = "interval") -> Cycle:
        """One cycle; then the oracle looks, and time passes."""
        cycle, self.memory = run_cycle(self.ports, self.setting, self.memory, Trigger(kind), words)
        self.cycles.append(cycle)
        self.look(cycle)
        self.clock.seconds += STEP_S
        return cycle

    def until(self, true: Callable[[Cycle], bool], limit: int = 120) -> Cycle:
        """Cycles until one is as wanted."""
        cycles = [self.cycle()]
        while not true(cycles[-1]):
            assert len(cycles) < limit, f"never came true: {self.app.phase}, {self.app.reason}\n{_told(cycles[-1])}"
            cycles.append(self.cycle())
        return cycles[-1]

    def converge(self, *words: Word) -> Cycle:
        if words:
            self.cycle(*words)
        return self.until(lambda cycle: cycle.is_converged and self.app.phase is Phase.STABLE)

    def passes(self, seconds: float) -> None:
        self.traffic.flow()
        self.clock.seconds += seconds

    # ---------------------------------------------------------------- what is so

    @property
    def app(self) -> ServiceRollout:
        return self.memory.rollout.of("app")

    def boxes(self, service: str = "app") -> list[Any]:
        return [b for b in self.engine.boxes.values() if b.labels.get("io.swiftdeploy.service") == service]

    def images(self, service: str = "app") -> list[str]:
        return sorted(box.request.spec.image for box in self.boxes(service))

    def is_well(self, box: Any) -> bool:
        return box.status is Status.RUNNING and box.request.spec.image not in self.sick

    def kinds(self) -> list[str]:
        return [str(record["kind"]) for record in self.records]

    # ---------------------------------------------------------------- the oracle

    def look(self, cycle: Cycle | None = None) -> None:
        """After a cycle: requests have somewhere to go, if they ever had."""
        is_up = not self.memory.rollout.torn_down
        self._was_stable = is_up and (
            self._was_stable or (cycle is not None and cycle.is_converged and self.app.phase is Phase.STABLE)
        )
        if self._was_stable and not self.broken:
            for addresses in self.nginx.sends_to():
                well = {a for box in self.boxes() if self.is_well(box) for a in box.endpoints.values()}
                assert addresses & well, f"requests go to {set(addresses)}, but well are only {well}"

    def foresee(self, action: Action) -> None:
        """Before an act: it must not take away a healthy container that gets requests."""
        if not isinstance(action, StopContainer | RemoveContainer) or not any(map(self.is_well, self.boxes(PROXY))):
            return
        box = self.engine.boxes.get(action.container_id)
        if box is not None and box in self.boxes() and self.is_well(box):
            sent = frozenset().union(*self.nginx.sends_to())
            assert not sent & set(box.endpoints.values()), f"{box.name} still gets requests"

    def act(self, name: str, do: Callable[[], Result]) -> Result:
        self.around(f"before {name}")
        result = do()
        self.around(f"after {name}")
        return result


def _told(cycle: Cycle) -> str:
    return "\n".join([str(cycle.plan), *cycle.errors, *(str(problem) for problem in cycle.problems)])


class OracleError(BaseException):
    """Not to be taken for a bug of an adapter: it ends the test."""


@dataclasses.dataclass
class _Port:
    world: World


class _Source(_Port):
    def load(self) -> Loaded:
        return self.world.loaded


class _Watched(_Port):
    def observe(self, wanted: Any) -> Any:
        return self.world.engine.observe(wanted)

    def apply(self, action: Any) -> Result:
        try:
            self.world.foresee(action)
        except AssertionError as error:
            raise OracleError(str(error)) from error
        return self.world.act(type(action).__name__, lambda: self.world.engine.apply(action))

    def logs(self, container_id: str, *, tail: int, follow: bool) -> Any:
        return self.world.engine.logs(container_id, tail=tail, follow=follow)

    def facts(self) -> Any:
        return self.world.engine.facts()

    def forget_image_failures(self) -> None:
        self.world.engine.forget_image_failures()


class _Prober(_Port):
    def probe(self, targets: Sequence[ProbeTarget]) -> Mapping[str, tuple[Health, str]]:
        boxes = self.world.engine.boxes
        return {
            t.container.id: (Health.READY, "") if self.world.is_well(boxes[t.container.id]) else (Health.SICK, "503")
            for t in targets
        }


class _Proxy(_Port):
    def observe(self, container: ObservedContainer | None, services: Sequence[str]) -> ObservedProxy:
        return self.world.nginx.observe(container, services)

    def apply(self, action: Any) -> Result:
        return self.world.act(type(action).__name__, lambda: self.world.nginx.apply(action))


class _Files(_Port):
    def digests(self) -> Mapping[str, str]:
        return self.world.files.digests()

    def apply(self, action: Any) -> Result:
        return self.world.act(f"{type(action).__name__} {action.path}", lambda: self.world.files.apply(action))


class _Policy(_Port):
    def prepare(self, revision: str) -> Result:
        return self.world.act("PreparePolicy", lambda: OK)

    def ready(self, revision: str) -> tuple[bool, str]:
        mounts = [m.source for b in self.world.boxes(POLICY) if self.world.is_well(b) for m in b.request.spec.mounts]
        is_there = any(source.endswith(f"/opa/{revision[:12]}") for source in mounts)
        return (is_there and self.world.opa_answers, "" if is_there else "nobody listens")

    def evaluate(self, domain: str, question: Any, revision: str) -> Verdict:
        self.world.asked.append(domain)
        if domain == "canary" and domain not in self.world.verdicts:
            return _judged(question)
        return self.world.verdicts.get(domain, Verdict(domain, True, "", action="promote"))


def _judged(question: Any) -> Verdict:
    """A policy of a few words: away with errors, wait for requests, else on."""
    rate, requests = question["error_rate"], question["requests"]
    if isinstance(rate, dict) or isinstance(requests, dict):
        return Verdict("canary", False, f"nothing is known: {rate}", action="hold")
    if rate > 0.01:
        return Verdict("canary", False, "Error rate exceeds 1% threshold", action="rollback")
    if question["evidence"]["requests"]["canary"] < question["rollout"]["min_requests"]:
        return Verdict("canary", False, "not enough evidence", action="hold")
    return Verdict("canary", True, "all is well", action="promote")


class _Host:
    def facts(self, disk_path: str | None) -> HostFacts:
        return HostFacts(50.0, 0.5, 40.0, 4, disk_path or "/")

    def free_subnet(self, taken: Sequence[str]) -> tuple[str, str] | None:
        return "10.9.0.0/22", "10.9.3.0/24"


class _History(_Port):
    def append(self, record: Mapping[str, Any]) -> None:
        if self.world.history_is_full:
            raise StateError("history.jsonl: no space left on the device")
        self.world.around("before append")
        self.world.records.append(record)
