"""What has to be allowed: a manifest to come into force, a rollout to begin and to go on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from reconciler.core.desired import DesiredState
from reconciler.core.errors import Problem, StateError
from reconciler.core.evidence import Evidence
from reconciler.core.observed import ObservedState
from reconciler.core.record import Verdict
from reconciler.core.rollout import Rollout
from reconciler.core.targets import PolicyTarget, Targets
from reconciler.cycle.memory import Asked, Memory
from reconciler.cycle.notes import Notes
from reconciler.formats import policy as policies
from reconciler.measuring import Measured, judge, keep, look_at
from reconciler.ports import Ports


def admit(
    ports: Ports,
    asked: Asked,
    memory: Memory,
    observed: ObservedState,
    answering: Sequence[PolicyTarget],
    notes: Notes,
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
    judge = answering[0].revision if asked.is_proposal else policies.revision_of(asked.force)
    if not observed.policy(judge).ready:
        notes.problems += (_nobody_to_judge(asked.force),)
        return asked, memory
    question = policies.question_admission(asked.incoming, None if asked.is_proposal else asked.force)
    verdict = ports.policy.evaluate("admission", question, judge)
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


def _nobody_to_judge(force: DesiredState) -> Problem:
    """Nobody admits himself: other policies come into force by a word of those that are (ADR 2)."""
    message = (
        f"other policies have to be let in by those in force, and no engine can hold these: {force.opa.image} is not "
        f"here. `docker pull` or build it, or change policies and engine one after the other"
    )
    return Problem("policies", 0, 0, message)


def ask_infrastructure(ports: Ports, asked: Asked, observed: ObservedState, notes: Notes) -> Verdict | None:
    """The verdict of the infrastructure gate: asked in every cycle, since people want to see it, heeded at a start."""
    if asked.is_proposal:
        return None
    current = policies.revision_of(asked.force)
    if not observed.policy(current).ready:
        return None
    path = asked.force.limits.get("infrastructure", {}).get("disk_path")
    facts = ports.host.facts(path if isinstance(path, str) else None)
    verdict = ports.policy.evaluate("infrastructure", policies.question_infrastructure(facts), current)
    notes.verdicts.append(verdict)
    return verdict


def measure_or_blind(
    ports: Ports,
    desired: DesiredState,
    targets: Targets,
    rollout: Rollout,
    observed: ObservedState,
    memory: Memory,
    notes: Notes,
) -> Measured:
    """What was measured, and kept on disk. A bug in it is recorded as one: it costs verdicts, no healing."""
    try:
        measured = measure_and_judge(ports, desired, targets, rollout, observed, memory.evidence)
    except Exception as error:  # noqa: BLE001 - without a verdict nothing moves up, and what is ill is healed all the same
        notes.errors.append(f"bug in measuring: {type(error).__name__}: {error}")
        return Measured()
    return keep(ports, measured)


def measure_and_judge(
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
    current = policies.revision_of(desired)
    found, measured = look_at(ports, desired, targets.kept, rollout, observed, before)
    ports.probes.set((trial.service, slot) for trial in found for slot in trial.probed)
    return judge(ports, desired, found, measured, current if observed.policy(current).ready else None)
