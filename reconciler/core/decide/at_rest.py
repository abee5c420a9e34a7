"""Nothing is under way: whether something is to be started, and if not, why."""

from __future__ import annotations

from reconciler.core.decide.view import View, paused_words
from reconciler.core.desired import Mode, Service, Step, Strategy
from reconciler.core.rollout import IN_PLACE, Course, Decision, Move, Release, ServiceRollout


def at_rest(view: View) -> Decision:
    state, wanted = view.state, view.wanted
    if wanted is None:
        return view.hold(view.unknown_wish)
    release = _next_release(view, wanted)
    if release is None:
        return view.hold()
    if wanted == state.dismissed and state.stable is not None:
        if state.stable.revision == wanted.revision and not state.why_rolled_back:
            return view.hold("it was promoted by an operator, though the manifest keeps a canary: commit mode: stable")
        why = f" ({state.why_rolled_back})" if state.why_rolled_back else ""
        return view.hold(f'the canary was dismissed{why}; change the manifest, or `retry --reason "why"`')
    if release.revision in state.quarantined:
        why = f" ({state.why_rolled_back})" if release.revision == state.quarantined[-1] else ""
        return view.hold(
            f"revision {release.revision[:12]} was rolled back before{why} and is quarantined; "
            'change the service, or `retry --reason "why"`'
        )
    if state.paused is not None and state.stable is not None:
        return view.hold(paused_words(state))
    taken = "; ".join(
        f"port {port} is taken by {who}" for port, who in view.context.observed.engine.ports_taken.items()
    )
    if taken and state.stable is None:
        return view.hold(f"{taken}; stop it, or change nginx.port")
    gate = view.context.gate
    if gate is None:
        return view.hold("waiting for the policy engine")
    if not gate.allow:
        return view.hold(f"{'DENIED' if gate.known else 'policy engine failed'}: {gate.reason}")
    course = course_of(view.service) if view.service and state.stable else Course()
    return view.move(Move.START, _start_reason(state, release), release=release, course=course)


def _next_release(view: View, wanted: Release) -> Release | None:
    """What would be started now; None where what is wanted runs already."""
    stable, last = view.state.stable, view.state.last_stable
    if stable is None:
        kept = view.context.targets.kept.get(last)
        here = {image.id for image in view.context.observed.engine.images.values()}
        is_here = kept is not None and kept.image.id in here
        is_back = is_here and last not in view.state.quarantined
        return Release(last if is_back else wanted.revision, Mode.STABLE)
    in_place = view.service is not None and view.service.rollout.strategy in IN_PLACE
    if wanted.revision == stable.revision:
        return Release(wanted.revision, Mode.CANARY) if view.is_held and not in_place else None
    return Release(wanted.revision, Mode.STABLE if in_place else Mode.CANARY)


def _start_reason(state: ServiceRollout, release: Release) -> str:
    if state.stable is None:
        is_back = release.revision == state.last_stable
        return "back to the last stable revision" if is_back else "first deployment"
    if state.stable.revision == release.revision:
        return f"a canary of the stable revision {release.revision[:12]}"
    return f"revision {state.stable.revision[:12]} → {release.revision[:12]}"


def course_of(service: Service) -> Course:
    """How a rollout of `service` goes. A blue-green one has a single step without traffic, for probes of ours."""
    rollout = service.rollout
    match rollout.strategy:
        case Strategy.CANARY:
            steps = rollout.steps
        case Strategy.BLUE_GREEN:
            steps = (Step(0, rollout.steps[0].duration_s if rollout.steps else 0.0),)
        case _:
            steps = ()
    return Course(rollout.strategy, steps, rollout.promotion == "adopt")
