"""One pass: load, observe, evaluate, decide, render, plan, apply, record. Read `run_cycle` first.

A cycle never asks what changed, only what is and what should be. It raises nothing: what goes wrong in it is
in the `Cycle` it answers with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from reconciler.core.addresses import overlaps
from reconciler.core.backoff import Backoff, strike, wait_s
from reconciler.core.containers import KeptRevision, Layout
from reconciler.core.decide import Context, advance, decide, moved_in_time, not_ahead_of, wish_changed
from reconciler.core.desired import POLICY, PROXY, DesiredState, Mode
from reconciler.core.errors import EngineError, Problem, ReconcilerError, RenderError, StateError
from reconciler.core.evidence import Evidence
from reconciler.core.membership import named, recall, remember, without_vanished
from reconciler.core.observed import EngineState, Health, ObservedContainer, ObservedState, PolicyHealth
from reconciler.core.plan import Action, CreateContainer, Outcome, Plan, PlannedAction, Result, StartContainer
from reconciler.core.planner import Wish, kept_port, make_plan
from reconciler.core.provenance import Commit
from reconciler.core.record import Cycle, Trigger, Verdict
from reconciler.core.rollout import LOWERING, WAY_BACK, Decision, Move, Phase, Release, Rollout, ServiceRollout
from reconciler.core.targets import PolicyTarget, Targets, make_targets, wanted_images
from reconciler.core.unrecorded import needs_record
from reconciler.core.words import Deploy, LookAgain, Word, hear
from reconciler.executor import apply_plan, performer
from reconciler.formats import cycle_record, rendered, sync
from reconciler.formats import policy as policies
from reconciler.formats.history import IdleRun
from reconciler.measuring import Measured, judge, keep, look_at
from reconciler.ports import Loaded, Ports, ProbeTarget, Wanted

JUDGED_RECORD_S = 10.0
"""How often a trial is written down at least, while nothing but its numbers changes."""

KEPT_RECORD_S = 60.0
"""The same for a canary that the manifest keeps, maybe for days."""

CLOCK_JUMP_S = 1.0
"""A wall clock that moved by more against the steady one was set by somebody, and does not only run well."""

RECORD_AGAIN_S = 5.0
"""When an intent that could not be written is tried again."""

SHOWN_KEPT = 7
"""How many configurations of nginx before the newest one are remembered: an older one does not run any more."""

POLICY_PATIENCE_S = 15.0
"""How long a running OPA may leave us without an answer before its container is replaced (it starts in 0.6 s)."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What one cycle hands to the next. Only `rollout`, `last_good` and `evidence` matter, and they are on disk too.

    `awaited` are running containers that were not ready yet: the loop asks them again without a whole cycle.
    `voice` is what the last record said, `recorded_at` when (monotonic seconds), `intended` a plan that was written
    down and has not done anything yet.
    `troubles` is what the engine last said of containers, by name, that it could not create or start, `answered` when
    each OPA, by its container's ID, last did (monotonic seconds), `clock_ahead_s` how far the wall clock is ahead of
    the steady one, `shown` the addresses in nginx's last few configurations, by their hash, `commit` the one that
    `last_good` was read from.
    """

    rollout: Rollout = field(default_factory=Rollout)
    last_good: DesiredState | None = None
    number: int = 0
    backoff: Backoff = field(default_factory=dict)
    allow_interruption: bool = False
    awaited: tuple[ProbeTarget, ...] = ()
    voice: str | None = None
    idle: IdleRun | None = None
    intended: str = ""
    recorded_at: float = 0.0
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    answered: Mapping[str, float] = field(default_factory=dict)
    clock_ahead_s: float | None = None
    troubles: Mapping[str, str] = field(default_factory=dict)
    shown: Mapping[str, frozenset[str]] = field(default_factory=dict)
    commit: Commit | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """What never changes while a daemon runs."""

    layout: Layout
    pool: ThreadPoolExecutor


@dataclass(frozen=True, slots=True)
class Asked:
    """The manifest in force, and the one that waits to be let in (None: none, or the same).

    While nothing was ever let in, `force` is only a proposal: it says which policy engine to start.
    """

    force: DesiredState
    incoming: DesiredState | None
    is_proposal: bool = False

    @property
    def both(self) -> tuple[DesiredState, ...]:
        """Everything that has to be looked at."""
        return (self.force, self.incoming) if self.incoming else (self.force,)


def run_cycle(
    ports: Ports, setting: Setting, memory: Memory, trigger: Trigger, words: Sequence[Word] = ()
) -> tuple[Cycle, Memory]:
    """One whole cycle, recorded, and what the next one needs to know."""
    memory = _in_step_with_the_clock(ports, memory)
    notes = _Notes(memory, memory.number + 1, trigger, ports)
    notes.words = tuple(word for word in words if not isinstance(word, LookAgain))
    memory = _heard(memory, words)
    _save_words(ports, memory, words, notes)
    if any(isinstance(word, Deploy) for word in words):
        ports.runtime.forget_image_failures()
    loaded = ports.source.load()
    notes.problems += loaded.problems if loaded.settled else ()
    notes.loaded = loaded
    notes.is_settled, notes.asked = loaded.settled, loaded.desired.revision if loaded.desired else ""
    asked = _asked(memory, loaded)
    if asked is not None:
        try:
            memory = _pass(ports, setting, memory, asked, notes)
        except ReconcilerError as error:
            notes.errors.append(str(error))
        except Exception as error:  # noqa: BLE001 - a bug is recorded as one, and nothing more is done in this cycle
            notes.errors.append(f"bug: {type(error).__name__}: {error}")
    cycle = notes.cycle(memory.rollout, ports)
    is_pending = cycle.plan.acts and notes.is_recorded and not cycle_record.changed_the_world(cycle)
    intended = str(cycle.plan) if is_pending else ""
    memory = dataclasses.replace(memory, number=cycle.number, intended=intended)
    return cycle, _recorded(ports, memory, cycle, is_intended=notes.is_intended)


def _in_step_with_the_clock(ports: Ports, memory: Memory) -> Memory:
    """The memory with its moments moved along where somebody set the clock: no wait ends early or late by that."""
    ahead_s = ports.clock.now() - ports.clock.monotonic()
    before = memory.clock_ahead_s
    if before is None:
        memory = dataclasses.replace(memory, rollout=not_ahead_of(memory.rollout, ports.clock.now()))
    elif abs(ahead_s - before) > CLOCK_JUMP_S:
        memory = dataclasses.replace(memory, rollout=moved_in_time(memory.rollout, ahead_s - before))
    memory = dataclasses.replace(memory, clock_ahead_s=ahead_s)
    return dataclasses.replace(memory, rollout=memory.rollout.lapsed(_steady_now(ports, memory)))


def _steady_now(ports: Ports, memory: Memory) -> float:
    """Seconds since the epoch by the clock as it was set when the cycle began."""
    ahead_s = memory.clock_ahead_s
    return ports.clock.now() if ahead_s is None else ahead_s + ports.clock.monotonic()


def look(ports: Ports, setting: Setting, memory: Memory, trigger: Trigger) -> Cycle:
    """What a cycle would see, and what it would repair; changes and records nothing. Raises EngineError."""
    return _imagined(ports, setting, memory, trigger, ahead=False)[0]


def preview(ports: Ports, setting: Setting, memory: Memory, trigger: Trigger) -> tuple[Cycle, rendered.View | None]:
    """What a cycle would do with the manifest as it is now if every gate were open, and the files it would write.

    Changes and records nothing; no view where the manifest cannot be used. Raises EngineError and RenderError.
    """
    return _imagined(ports, setting, memory, trigger, ahead=True)


def _imagined(
    ports: Ports, setting: Setting, memory: Memory, trigger: Trigger, *, ahead: bool
) -> tuple[Cycle, rendered.View | None]:
    notes = _Notes(memory, memory.number, trigger, ports)
    notes.loaded = loaded = ports.source.load()
    notes.problems += loaded.problems
    desired = (loaded.desired or memory.last_good) if ahead else (memory.last_good or loaded.desired)
    if desired is None:
        return notes.cycle(memory.rollout, ports), None
    asked = Asked(desired, None)
    engine = ports.runtime.observe(_wanted(ports, asked, memory.rollout))
    engines = _engines(asked, engine, setting.layout, notes)
    answering = _answering(engines, asked)
    kept = _known(asked, engine, ports.rollouts.kept())
    observed = _observe(ports, asked, engine, answering, kept, notes)
    targets = make_targets(desired, engine.images, kept, setting.layout, answering)
    rollout = wish_changed(recall(memory.rollout, observed, targets.wanted), targets)
    verdict = _infrastructure(ports, asked, targets, observed, notes)
    now = ports.clock.now()
    if not ahead:
        notes.measured = _measured(ports, desired, targets, rollout, observed, memory.evidence)
    gate = _OPEN if ahead else verdict
    outlooks = sync.outlooks(desired.windows, now)
    context = Context(targets, observed, now, gate, notes.measured.verdicts, outlooks=outlooks)
    decisions = decide(rollout, context)
    if ahead:
        decisions = tuple(_under_way(decision, rollout.of(decision.service)) for decision in decisions)
        rollout = _with_subnet(ports, advance(rollout, decisions, now), observed)
    rollout = remember(rollout, observed, {service.name: service.replicas for service in desired.services})
    listen = kept_port(observed, allow_interruption=memory.allow_interruption)
    view = rendered.render(desired, targets, rollout, setting.layout, listen)
    wish = Wish(desired, targets, ports.instance, view.files, view.proxy_hash, view.compose_labels)
    notes.saw(desired, observed, decisions, make_plan(wish, observed, rollout), targets)
    return notes.cycle(rollout, ports), view


def _under_way(decision: Decision, state: ServiceRollout) -> Decision:
    """What a look ahead can say of a rollout that runs: it goes on, by what will be measured."""
    if state.phase in (Phase.ABSENT, Phase.STABLE, Phase.WATCHING):
        return decision if state.phase is not Phase.WATCHING else Decision(state.service, Move.HOLD)
    steps = f", step {state.step + 1} of {len(state.course.steps)}" if state.course.steps else ""
    return Decision(state.service, Move.HOLD, f"a rollout is under way: {state.phase.words}{steps}; see `why`")


_OPEN = Verdict("infrastructure", allow=True, reason="not asked: nothing is done", action="promote")


def _pass(ports: Ports, setting: Setting, memory: Memory, asked: Asked, notes: _Notes) -> Memory:
    notes.services = set(memory.rollout.services)
    suspension = memory.rollout.suspension(_steady_now(ports, memory))
    if suspension is not None:
        asked = dataclasses.replace(asked, incoming=None)
    engine = ports.runtime.observe(_wanted(ports, asked, memory.rollout))
    _refuse_a_rival(asked.force.project, engine)
    engines = _engines(asked, engine, setting.layout, notes)
    answering = _answering(engines, asked)
    kept = _known(asked, engine, ports.rollouts.kept())
    observed = _observe(ports, asked, engine, answering, kept, notes)
    asked, memory = _admit(ports, asked, memory, observed, answering, notes)
    memory = notes.traced(memory, asked.force)

    answering = _answering(engines, asked)
    targets = make_targets(asked.force, engine.images, kept, setting.layout, answering)
    rollout = recall(memory.rollout, observed, targets.wanted)
    if not asked.is_proposal:
        rollout = without_vanished(rollout, observed, {service.name for service in asked.force.services})
    rollout = wish_changed(rollout, targets)
    verdict = _infrastructure(ports, asked, targets, observed, notes)
    notes.measured = measured = _measured_or_blind(ports, asked.force, targets, rollout, observed, memory, notes)
    context = Context(
        targets,
        observed,
        _steady_now(ports, memory),
        verdict,
        measured.verdicts,
        memory.troubles,
        measured.disputed,
        measured.unread,
        sync.outlooks(asked.force.windows, ports.clock.now()),
    )
    decisions = () if asked.is_proposal else decide(rollout, context)
    rollout = _saved(ports, rollout, decisions, context, asked.force, notes)

    listen = kept_port(observed, allow_interruption=memory.allow_interruption)
    view = rendered.render(asked.force, targets, rollout, setting.layout, listen)
    notes.shows(view.proxy_hash, named(rollout))
    wish = Wish(asked.force, targets, ports.instance, view.files, view.proxy_hash, view.compose_labels)
    commit = memory.commit.id if memory.commit else ""
    wish = dataclasses.replace(wish, allow_interruption=memory.allow_interruption, commit=commit)
    is_still = suspension is not None and not suspension.heals
    plan = Plan(notes=(f"{suspension}; nothing is changed",)) if is_still else make_plan(wish, observed, rollout)
    notes.saw(asked.force, observed, decisions, plan, targets)
    if plan.acts and str(plan) != memory.intended:
        memory, notes.is_intended = flushed(ports, memory), True
        intent = cycle_record.intent(notes.number, notes.trigger, plan, ports.clock.timestamp())
        notes.is_recorded = _append(ports, intent, notes)
    notes.results = _carry_out(ports, setting, memory.backoff, plan, _unrecorded(notes, rollout, observed))
    return _remembered(memory, rollout, ports.clock.monotonic(), notes)


# ---------------------------------------------------------------- what is asked


def _heard(memory: Memory, words: Sequence[Word]) -> Memory:
    for word in words:
        allow = memory.allow_interruption or (isinstance(word, Deploy) and word.allow_interruption)
        memory = dataclasses.replace(memory, rollout=hear(memory.rollout, word), allow_interruption=allow)
    return memory


def _save_words(ports: Ports, memory: Memory, words: Sequence[Word], notes: _Notes) -> None:
    """What an operator said is not lost, even if the engine is away and the daemon dies before it is back."""
    try:
        if words:
            ports.rollouts.save(memory.rollout)
    except StateError as error:
        notes.errors.append(str(error))


def _asked(memory: Memory, loaded: Loaded) -> Asked | None:
    """None while there is nothing to go by: no manifest was ever good."""
    incoming = loaded.desired if loaded.settled else None
    if memory.last_good is None:
        return Asked(incoming, incoming, is_proposal=True) if incoming else None
    if incoming is None or incoming == memory.last_good:
        return Asked(memory.last_good, None)
    return Asked(memory.last_good, incoming)


def _wanted(ports: Ports, asked: Asked, rollout: Rollout) -> Wanted:
    images = dict.fromkeys(image for desired in asked.both for image in wanted_images(desired))
    back = {state.last_stable for state in rollout.services.values() if state.phase is Phase.ABSENT}
    images |= dict.fromkeys(kept.image.id for kept in ports.rollouts.kept() if kept.revision in back)
    return Wanted(
        project=asked.force.project,
        instance=ports.instance,
        network=asked.force.network.name,
        images=tuple(images),
        ports=tuple({desired.nginx.port: None for desired in asked.both}),
    )


def _refuse_a_rival(project: str, engine: EngineState) -> None:
    """Two daemons of one project would undo each other's work: the one that came second does nothing."""
    theirs = sorted(container.name for container in engine.containers if not container.ours)
    if theirs:
        raise EngineError(
            f"project {project} is run from another state directory already: {', '.join(theirs[:3])}. "
            "Give this one another project.name, or take the other down first (`swiftdeploy teardown` there)."
        )


# ---------------------------------------------------------------- what is seen


Engines = tuple[tuple[DesiredState, PolicyTarget], ...]


def _engines(asked: Asked, engine: EngineState, layout: Layout, notes: _Notes) -> Engines:
    """Which policy engine each manifest needs; one whose policies cannot be loaded is a problem of its manifest."""
    found = []
    for desired in asked.both:
        image = engine.images.get(desired.opa.image)
        if image is None:
            continue
        try:
            found.append((desired, policies.target(desired, image, layout)))
        except RenderError as error:
            notes.problems += (Problem("policies", 0, 0, str(error)),)
    return tuple(found)


def _answering(engines: Engines, asked: Asked) -> tuple[PolicyTarget, ...]:
    """The policy engines of the manifests that still count, that in force first, each once."""
    return tuple({t.revision: t for desired, t in engines if any(desired is one for one in asked.both)}.values())


def _known(asked: Asked, engine: EngineState, stored: Sequence[KeptRevision]) -> tuple[KeptRevision, ...]:
    """Every revision that could be started: those on disk and those the manifests ask for."""
    known = {kept.revision: kept for kept in stored}
    for desired in asked.both:
        known |= make_targets(desired, engine.images, (), Layout("", "", ""), ()).kept
    return tuple(known.values())


def _observe(
    ports: Ports,
    asked: Asked,
    engine: EngineState,
    answering: Sequence[PolicyTarget],
    kept: Sequence[KeptRevision],
    notes: _Notes,
) -> ObservedState:
    """The rest of the snapshot: who is healthy, what nginx and OPA say, which files are there."""
    services = {revision.revision: revision.service for revision in kept}
    asking = [
        ProbeTarget(container, services[container.revision].port, services[container.revision].healthcheck)
        for container in engine.containers
        if container.ours and container.is_running and container.revision in services
    ]
    health = ports.prober.probe(asking)
    notes.awaited = tuple(t for t in asking if health.get(t.container.id, (Health.READY, ""))[0] is not Health.READY)
    containers = tuple(
        dataclasses.replace(c, health=health[c.id][0], health_detail=health[c.id][1]) if c.id in health else c
        for c in engine.containers
    )
    state = ObservedState(dataclasses.replace(engine, containers=containers), files=ports.files.digests())
    proxy = next((c for c in state.of(PROXY) if c.is_running), None)
    notes.engines = frozenset(container.id for container in state.of(POLICY))
    names = sorted({s.name for desired in asked.both for s in desired.services} | notes.services)
    running = ports.proxy.observe(proxy, names)
    return dataclasses.replace(
        state,
        proxy=dataclasses.replace(running, named=notes.shown.get(running.live_hash or "")),
        policies={target.revision: _policy_health(ports, target, state, notes) for target in answering},
    )


def _policy_health(ports: Ports, target: PolicyTarget, state: ObservedState, notes: _Notes) -> PolicyHealth:
    ready, detail = ports.policy.ready(target.revision)
    container = next((c for c in state.of(POLICY) if c.revision == target.spec.digest()), None)
    if container is None:
        return PolicyHealth(ready, detail)
    if ready:
        notes.answered[container.id] = notes.at
        return PolicyHealth(ready, detail)
    if container.is_running:
        silent_s = notes.at - notes.answered.setdefault(container.id, notes.at)
        runs_s = max(0.0, container.uptime_s(ports.clock.now()))  # one that was started again has the time of a new one
        return PolicyHealth(ready, detail, is_stuck=min(silent_s, runs_s) > POLICY_PATIENCE_S)
    return PolicyHealth(False, _last_words(ports, container), has_failed=container.has_run)


def _last_words(ports: Ports, container: ObservedContainer) -> str:
    """What a container that stopped said last."""
    try:
        said = [line or b"" for line in ports.runtime.logs(container.id, tail=5, follow=False)]
    except EngineError as error:
        return str(error)
    words = b" ".join(said).decode("utf-8", "replace").split()
    return " ".join(words)[:1000] or f"exited with code {container.exit_code}"


# ---------------------------------------------------------------- gates


def _admit(
    ports: Ports,
    asked: Asked,
    memory: Memory,
    observed: ObservedState,
    answering: Sequence[PolicyTarget],
    notes: _Notes,
) -> tuple[Asked, Memory]:
    """Let the waiting manifest in if the policy in force says so and its own policies answer."""
    if asked.incoming is None or not answering:
        return asked, memory
    for target in answering:
        health = observed.policy(target.revision)
        if health.has_failed:
            notes.problems += (Problem("policies", 0, 0, f"OPA does not start with these policies: {health.detail}"),)
        if not health.ready:
            return asked, memory
    if asked.incoming.project != asked.force.project and any(c.ours for c in observed.engine.containers):
        notes.problems += (_other_project(asked.force.project, asked.incoming.project),)
        return asked, memory
    question = policies.question_admission(asked.incoming, None if asked.is_proposal else asked.force)
    verdict = ports.policy.evaluate("admission", question, answering[0].revision)
    notes.verdicts.append(verdict)
    if not verdict.allow:
        return asked, memory
    try:
        ports.rollouts.admit(asked.incoming)
    except StateError as error:
        notes.errors.append(str(error))
        return asked, memory
    rollout = dataclasses.replace(memory.rollout, admitted=asked.incoming.revision)
    return Asked(asked.incoming, None), dataclasses.replace(memory, rollout=rollout, last_good=asked.incoming)


def _other_project(now: str, then: str) -> Problem:
    """A state directory belongs to one project: another would be a second stack, with nobody in charge of the first."""
    message = (
        f"project.name is {then}, but this state directory runs {now}. `swiftdeploy teardown` first, or name it {now}"
    )
    return Problem("manifest.yaml", 0, 0, message)


def _infrastructure(
    ports: Ports, asked: Asked, targets: Targets, observed: ObservedState, notes: _Notes
) -> Verdict | None:
    """The verdict of the infrastructure gate: asked in every cycle, since people want to see it, heeded at a start."""
    if asked.is_proposal:
        return None
    current = targets.policies[0] if targets.policies else None
    if current is None or not observed.policy(current.revision).ready:
        return None
    path = asked.force.limits.get("infrastructure", {}).get("disk_path")
    facts = ports.host.facts(path if isinstance(path, str) else None)
    verdict = ports.policy.evaluate("infrastructure", policies.question_infrastructure(facts), current.revision)
    notes.verdicts.append(verdict)
    return verdict


def _measured_or_blind(
    ports: Ports,
    desired: DesiredState,
    targets: Targets,
    rollout: Rollout,
    observed: ObservedState,
    memory: Memory,
    notes: _Notes,
) -> Measured:
    """What was measured, and kept on disk. A bug in it is recorded as one: it costs verdicts, no healing."""
    try:
        measured = _measured(ports, desired, targets, rollout, observed, memory.evidence)
    except Exception as error:  # noqa: BLE001 - without a verdict nothing moves up, and what is ill is healed all the same
        notes.errors.append(f"bug in measuring: {type(error).__name__}: {error}")
        return Measured()
    return keep(ports, measured)


def _measured(
    ports: Ports,
    desired: DesiredState,
    targets: Targets,
    rollout: Rollout,
    observed: ObservedState,
    before: Mapping[str, Evidence],
) -> Measured:
    """What was counted, and what the canary policy makes of it."""
    if rollout.torn_down:
        return Measured()
    current = targets.policies[0].revision if targets.policies else ""
    found, measured = look_at(ports, desired, targets.kept, rollout, observed, before)
    ports.probes.set((trial.service, slot) for trial in found for slot in trial.probed)
    return judge(ports, desired, found, measured, current if observed.policy(current).ready else None)


# ---------------------------------------------------------------- acting


def _saved(
    ports: Ports,
    before: Rollout,
    decisions: tuple[Decision, ...],
    context: Context,
    desired: DesiredState,
    notes: _Notes,
) -> Rollout:
    """The rollout once `decisions` are taken and on disk.

    Where it could not be put there, nothing new is begun; what takes requests away from a canary is done all the same.
    """
    replicas = {service.name: service.replicas for service in desired.services}
    after = advance(before, decisions, context.now)
    if any(decision.move is Move.START for decision in decisions):
        after = dataclasses.replace(after, glass=None)
    after = remember(_with_subnet(ports, after, context.observed), context.observed, replicas)
    try:
        for kept in _wanted_kept(context):
            ports.rollouts.keep(kept)
        ports.rollouts.save(after)
    except StateError as error:
        notes.errors.append(str(error))
        safe = tuple(d for d in decisions if d.move in LOWERING or before.of(d.service).phase in WAY_BACK)
        return remember(advance(before, safe, context.now), context.observed, replicas)
    try:
        ports.rollouts.forget_all_but(_needed(after, context))
    except StateError as error:
        notes.errors.append(str(error))
    return after


def _needed(rollout: Rollout, context: Context) -> set[str]:
    """The revisions that run, are on their way, or are wanted; those of containers that are still to be removed too."""
    running = {group.revision for state in rollout.services.values() for group in state.groups}
    back = {state.last_stable for state in rollout.services.values()}
    there = {container.revision for container in context.observed.engine.containers}
    return running | back | there | {release.revision for release in context.targets.wanted.values()}


def _wanted_kept(context: Context) -> list[KeptRevision]:
    return [context.targets.kept[release.revision] for release in context.targets.wanted.values()]


def _with_subnet(ports: Ports, rollout: Rollout, observed: ObservedState) -> Rollout:
    """The rollout with a subnet for our network: chosen once, and again where another network took it meanwhile."""
    active = any(state.phase is not Phase.ABSENT for state in rollout.services.values())
    if observed.engine.networks or not active:
        return rollout
    taken = sorted(observed.engine.taken_subnets)
    if rollout.subnet and not overlaps(rollout.subnet, taken):
        return rollout
    found = ports.host.free_subnet(taken)
    return dataclasses.replace(rollout, subnet=found[0], ip_range=found[1]) if found else rollout


def _unrecorded(notes: _Notes, rollout: Rollout, observed: ObservedState) -> Callable[[Action], bool]:
    """What has to be left undone in this cycle, because its intent is not on disk."""
    return lambda action: not notes.is_recorded and needs_record(action, rollout, observed)


def _carry_out(
    ports: Ports, setting: Setting, backoff: Backoff, plan: Plan, is_left: Callable[[Action], bool]
) -> tuple[Result, ...]:
    """Apply the plan; what keeps going wrong is left alone for a while, and what `is_left` for this cycle."""
    if not plan:
        return ()
    now = ports.clock.monotonic()

    def held_back(step: PlannedAction) -> float:
        if is_left(step.action):
            return RECORD_AGAIN_S
        return wait_s(backoff, step.target, now) if isinstance(step.action, _STRIKES) else 0.0

    return apply_plan(plan, performer(ports), setting.pool, held_back)


_STRIKES = (CreateContainer, StartContainer)


def _append(ports: Ports, record: cycle_record.Record, notes: _Notes) -> bool:
    """The record is on disk; where it is not, the cycle says why."""
    trouble = _try_append(ports, record)
    if trouble:
        notes.errors.append(trouble)
    return not trouble


def _recorded(ports: Ports, memory: Memory, cycle: Cycle, *, is_intended: bool) -> Memory:
    """Write the cycle down; one that says nothing new joins the run of idle ones, to be written as one record."""
    record, voice = cycle_record.finished(cycle), cycle_record.voice(cycle)
    is_news = is_intended or voice != memory.voice or cycle_record.changed_the_world(cycle)
    now = ports.clock.monotonic()
    is_news = is_news or (bool(cycle.judged) and now - memory.recorded_at >= _judged_record_s(cycle))
    if not is_news and (memory.idle is None or memory.idle.fits(record)):
        idle = memory.idle.add(record) if memory.idle else IdleRun.start(record)
        return dataclasses.replace(memory, idle=idle)
    memory = flushed(ports, memory)
    _try_append(ports, record)
    return dataclasses.replace(memory, voice=voice, recorded_at=now)


def _judged_record_s(cycle: Cycle) -> float:
    """The time between two records of a trial in which nothing is decided, in seconds."""
    is_kept = any(release.mode is Mode.CANARY for release in cycle.wanted.values())
    return KEPT_RECORD_S if is_kept else JUDGED_RECORD_S


def flushed(ports: Ports, memory: Memory) -> Memory:
    """Write the run of idle cycles down, if there is one."""
    if memory.idle is not None:
        _try_append(ports, {"timestamp": ports.clock.timestamp(), **memory.idle.record()})
    return dataclasses.replace(memory, idle=None)


def _try_append(ports: Ports, record: cycle_record.Record) -> str:
    """Append; a record that cannot be written now waits in the history's own queue. The trouble, or ""."""
    try:
        ports.history.append(record)
    except StateError as error:
        return str(error)
    return ""


def _remembered(memory: Memory, rollout: Rollout, now: float, notes: _Notes) -> Memory:
    tried = frozenset(
        step.target
        for step, result in zip(notes.plan.steps, notes.results, strict=True)
        if isinstance(step.action, _STRIKES) and result.outcome is not Outcome.SKIPPED
    )
    backoff = strike(memory.backoff, tried, now) if tried else memory.backoff
    allow = memory.allow_interruption and bool(notes.plan)
    return dataclasses.replace(
        memory,
        rollout=rollout,
        backoff=backoff,
        allow_interruption=allow,
        awaited=notes.awaited,
        evidence={**memory.evidence, **notes.measured.evidence},
        troubles=_troubles(memory, notes),
        answered={container: at for container, at in notes.answered.items() if container in notes.engines},
        shown=notes.shown,
    )


def _troubles(memory: Memory, notes: _Notes) -> Mapping[str, str]:
    """What the engine refuses, until it does not, or nobody asks any more."""
    found = {}
    for step, result in zip(notes.plan.steps, notes.results, strict=True):
        if not isinstance(step.action, _STRIKES):
            continue
        if result.outcome in (Outcome.FAILED, Outcome.UNKNOWN):
            found[step.target] = result.detail
        elif result.outcome is Outcome.SKIPPED and step.target in memory.troubles:
            found[step.target] = memory.troubles[step.target]
    return found


_CUT_SHORT = Result(Outcome.SKIPPED, "the cycle ended before it")


class _Notes:
    """A cycle being written down."""

    def __init__(self, memory: Memory, number: int, trigger: Trigger, ports: Ports) -> None:
        self.number, self.trigger = number, trigger
        self.started, self.at = ports.clock.timestamp(), ports.clock.monotonic()
        self.answered = dict(memory.answered)
        self.shown = dict(memory.shown)
        self.engines: frozenset[str] = frozenset()
        self.desired: DesiredState | None = None
        self.observed: ObservedState | None = None
        self.problems: tuple[Problem, ...] = ()
        self.verdicts: list[Verdict] = []
        self.decisions: tuple[Decision, ...] = ()
        self.plan = Plan()
        self.results: tuple[Result, ...] = ()
        self.errors: list[str] = []
        self.is_settled = True
        self.asked = ""
        self.is_intended = False
        self.is_recorded = True
        self.awaited: tuple[ProbeTarget, ...] = ()
        self.services: set[str] = set()
        self.wanted: dict[str, Release] = {}
        self.made_of: dict[str, tuple[str, str]] = {}
        self.words: tuple[Word, ...] = ()
        self.loaded: Loaded | None = None
        self.commit = memory.commit
        self.measured = Measured()

    def traced(self, memory: Memory, force: DesiredState) -> Memory:
        """The memory with the commit that the manifest in force comes from, where this cycle has read that."""
        if self.loaded is not None and self.loaded.desired == force:
            self.commit = self.loaded.commit
        return dataclasses.replace(memory, commit=self.commit)

    def shows(self, proxy_hash: str, addresses: frozenset[str]) -> None:
        """nginx may run the configuration of that hash from now on: it names `addresses`."""
        kept = [hash_ for hash_ in self.shown if hash_ != proxy_hash][-SHOWN_KEPT:]
        self.shown = {hash_: self.shown[hash_] for hash_ in kept} | {proxy_hash: addresses}

    def saw(
        self,
        desired: DesiredState,
        observed: ObservedState,
        decisions: tuple[Decision, ...],
        plan: Plan,
        targets: Targets,
    ) -> None:
        self.wanted = dict(targets.wanted)
        self.made_of = {k.revision: (k.service.image, k.service.version) for k in targets.kept.values()}
        self.desired, self.observed, self.decisions, self.plan = desired, observed, decisions, plan

    def cycle(self, rollout: Rollout, ports: Ports) -> Cycle:
        return Cycle(
            number=self.number,
            trigger=self.trigger,
            started=self.started,
            ended=ports.clock.timestamp(),
            duration_ms=(ports.clock.monotonic() - self.at) * 1000,
            desired=self.desired,
            observed=self.observed,
            rollout=rollout,
            problems=self.problems,
            verdicts=(*self.verdicts, *self.measured.verdicts.values()),
            decisions=self.decisions,
            plan=self.plan,
            results=self.results or tuple(_CUT_SHORT for _ in self.plan.steps),
            errors=(*self.errors, *filter(None, [self.measured.trouble])),
            is_settled=self.is_settled,
            asked=self.asked,
            words=self.words,
            measured=self.measured.summaries,
            judged=self.measured.verdicts,
            wanted=self.wanted,
            made_of=self.made_of,
            commit=self.commit,
            trouble=self.loaded.trouble if self.loaded is not None else (),
        )
