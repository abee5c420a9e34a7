"""One pass: load, observe, evaluate, decide, render, plan, apply, record. Read `run_cycle` first.

A cycle never asks what changed, only what is and what should be. It raises nothing: what goes wrong in it is
in the `Cycle` it answers with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from reconciler.core.decide import Context, advance, decide, moved_in_time, not_ahead_of, wish_changed
from reconciler.core.desired import DesiredState
from reconciler.core.errors import ReconcilerError
from reconciler.core.membership import may_be_older, named, recall, remember, without_vanished
from reconciler.core.observed import ObservedState
from reconciler.core.plan import Plan
from reconciler.core.planner import Wish, kept_port, make_plan
from reconciler.core.record import Cycle, Trigger, Verdict
from reconciler.core.rollout import Decision, Move, Phase, Rollout, ServiceRollout, is_taken_back
from reconciler.core.targets import make_targets
from reconciler.core.words import Deploy, Word
from reconciler.cycle.acting import carry_out, left_unrecorded, remembered, save_decided, save_trace, with_subnet
from reconciler.cycle.asking import heard, permitted, refuse_a_rival, save_words, wanted_of, what_is_asked
from reconciler.cycle.gates import admit, ask_infrastructure, measure_and_judge, measure_or_blind
from reconciler.cycle.memory import Asked, Memory, Setting
from reconciler.cycle.notes import Notes
from reconciler.cycle.recording import append, flushed, write_down
from reconciler.cycle.seeing import answering_of, engines_of, known_revisions, observe, with_port_of
from reconciler.formats import cycle_record, rendered, sync
from reconciler.ports import Ports

CLOCK_JUMP_S = 1.0
"""A wall clock that moved by more against the steady one was set by somebody, and does not only run well."""


def run_cycle(
    ports: Ports, setting: Setting, memory: Memory, trigger: Trigger, words: Sequence[Word] = ()
) -> tuple[Cycle, Memory]:
    """One whole cycle, recorded, and what the next one needs to know."""
    memory = _in_step_with_the_clock(ports, memory)
    notes = Notes(memory, memory.number + 1, trigger, ports)
    notes.words = cycle_record.as_heard(memory.rollout, words)
    memory = heard(memory, words, ports.clock.monotonic())
    memory = save_words(ports, memory, words, notes)
    if any(isinstance(word, Deploy) for word in words):
        ports.runtime.forget_image_failures()
    loaded = ports.source.load()
    notes.problems += loaded.problems if loaded.settled else ()
    notes.loaded = loaded
    memory = permitted(memory, loaded, ports.clock.monotonic())
    notes.is_settled, notes.asked = loaded.settled, loaded.desired.revision if loaded.desired else ""
    asked = what_is_asked(memory, loaded)
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
    return cycle, write_down(ports, memory, cycle, is_intended=notes.is_intended)


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
    notes = Notes(memory, memory.number, trigger, ports)
    notes.loaded = loaded = ports.source.load()
    notes.problems += loaded.problems
    desired = (loaded.desired or memory.last_good) if ahead else (memory.last_good or loaded.desired)
    if desired is None:
        return notes.cycle(memory.rollout, ports), None
    asked = Asked(desired, None)
    engine = ports.runtime.observe(wanted_of(ports, asked, memory.rollout))
    engines = engines_of(asked, engine, setting.layout, notes)
    answering = answering_of(engines, asked)
    kept = known_revisions(asked, engine, ports.rollouts.kept())
    observed = observe(ports, asked, engine, answering, kept, memory.rollout, notes)
    targets = make_targets(desired, engine.images, kept, setting.layout, answering)
    rollout = recall(memory.rollout, observed, targets.wanted, targets.kept, is_first=not memory.is_recalled)
    rollout = wish_changed(rollout, targets)
    verdict = ask_infrastructure(ports, asked, observed, notes)
    now = ports.clock.now()
    if not ahead:
        notes.measured = measure_and_judge(ports, desired, targets, rollout, observed, memory.evidence)
    gate = _OPEN if ahead else verdict
    outlooks = sync.outlooks(desired.windows, now)
    context = Context(targets, observed, now, gate, notes.measured.verdicts, outlooks=outlooks)
    decisions = decide(rollout, context)
    if ahead:
        decisions = tuple(_under_way(decision, rollout.of(decision.service)) for decision in decisions)
        rollout = with_subnet(ports, advance(rollout, decisions, now), observed)
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


def _recalled(
    memory: Memory, rollout: Rollout, observed: ObservedState, desired: DesiredState, notes: Notes
) -> tuple[Memory, bool]:
    """The memory with what it knows of the rollout from disk, and whether that is still in doubt.

    What may be an older rollout is left alone until who serves meanwhile has answered, or is overdue.
    """
    older = () if memory.is_recalled else may_be_older(rollout, observed)
    since = notes.at if memory.in_doubt_since is None else memory.in_doubt_since
    patience_s = max((service.rollout.health_deadline_s for service in desired.services), default=0.0)
    if not older or notes.at - since > patience_s:
        return dataclasses.replace(memory, is_recalled=True, in_doubt_since=None), False
    runs = ", ".join(older)
    notes.errors.append(
        f"the rollout on disk may be an older one: nothing is changed before what runs as {runs} answers"
    )
    return dataclasses.replace(memory, in_doubt_since=since), True


def _pass(ports: Ports, setting: Setting, memory: Memory, asked: Asked, notes: Notes) -> Memory:
    notes.services = set(memory.rollout.services)
    suspension = memory.rollout.suspension(_steady_now(ports, memory))
    if suspension is not None:
        asked = dataclasses.replace(asked, incoming=None)
    engine = ports.runtime.observe(wanted_of(ports, asked, memory.rollout))
    refuse_a_rival(asked.force.project, engine)
    engines = engines_of(asked, engine, setting.layout, notes)
    answering = answering_of(engines, asked)
    kept = known_revisions(asked, engine, ports.rollouts.kept())
    observed = observe(ports, asked, engine, answering, kept, memory.rollout, notes)
    asked, memory = admit(ports, asked, memory, observed, answering, notes)
    observed = with_port_of(asked.force, observed)
    memory = notes.traced(memory, asked.force)
    save_trace(ports, memory, notes)

    answering = answering_of(engines, asked)
    targets = make_targets(asked.force, engine.images, kept, setting.layout, answering)
    rollout = recall(memory.rollout, observed, targets.wanted, targets.kept, is_first=not memory.is_recalled)
    memory, is_in_doubt = _recalled(memory, rollout, observed, asked.force, notes)
    if not asked.is_proposal:
        rollout = without_vanished(rollout, observed, {service.name for service in asked.force.services})
    rollout = wish_changed(rollout, targets)
    verdict = ask_infrastructure(ports, asked, observed, notes)
    notes.measured = measured = measure_or_blind(ports, asked.force, targets, rollout, observed, memory, notes)
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
    decisions = () if is_in_doubt else decide(rollout, context)
    if asked.is_proposal:  # no manifest is in force, as where it was lost: only what an operator took back goes back
        decisions = tuple(d for d in decisions if is_taken_back(d, rollout.of(d.service)))
    rollout = save_decided(ports, rollout, decisions, context, asked.force, notes)

    listen = kept_port(observed, allow_interruption=memory.allow_interruption)
    view = rendered.render(asked.force, targets, rollout, setting.layout, listen)
    notes.shows(view.proxy_hash, named(rollout))
    wish = Wish(asked.force, targets, ports.instance, view.files, view.proxy_hash, view.compose_labels)
    commit = memory.commit.id if memory.commit else ""
    wish = dataclasses.replace(wish, allow_interruption=memory.allow_interruption, commit=commit)
    is_still = suspension is not None and not suspension.heals
    plan = Plan(notes=(f"{suspension}; nothing is changed",)) if is_still else make_plan(wish, observed, rollout)
    plan = Plan() if is_in_doubt else plan
    notes.saw(asked.force, observed, decisions, plan, targets)
    if plan.acts and str(plan) != memory.intended:
        memory, notes.is_intended = flushed(ports, memory), True
        intent = cycle_record.intent(notes.number, notes.trigger, plan, ports.clock.timestamp())
        notes.is_recorded = append(ports, intent, notes)
    notes.results = carry_out(ports, setting, memory.backoff, plan, left_unrecorded(notes, rollout, observed))
    return remembered(memory, rollout, ports.clock.monotonic(), notes)
