"""A candidate on trial, before it is promoted: it goes on, waits, or goes back."""

from __future__ import annotations

from reconciler.core.decide.at_rest import course_of
from reconciler.core.decide.view import View, asked_back_words, paused_words, waiting_for
from reconciler.core.desired import PROXY
from reconciler.core.membership import others
from reconciler.core.record import Verdict
from reconciler.core.rollout import IN_PLACE, Course, Decision, Move, ServiceRollout

DISPUTE_S = 30.0
"""How long a canary whose own count contradicts nginx's keeps its requests: one window of the policy's default."""


NOT_PROMOTED = "; not promoted, since the canary was not ready: "
"""What follows the reason of a suspension where an operator's promotion came to nothing."""


def starting(view: View) -> Decision:
    state = view.state
    early = _cut_short(view)
    if early is not None:
        return early
    ready = view.ready(state.candidate)
    if ready < view.replicas:
        return view.hold(view.waiting(state.candidate))
    if state.paused is not None and state.stable is not None:
        return view.hold(paused_words(state))
    course = _course_by_now(view)
    if state.stable is not None and not course.steps and not _is_promotable(view):
        return view.hold(
            view.unknown_wish or "there are no steps that it could be kept at; give rollout.steps, or use mode: stable"
        )
    return view.move(Move.READY, f"{ready} of {view.replicas} replicas ready", course=course)


def _course_by_now(view: View) -> Course:
    """The course that the manifest gives by now: nobody was sent a request yet. One in place begins in another way."""
    state = view.state
    if state.stable is None or view.wanted is None or view.service is None:
        return state.course
    given = course_of(view.service)
    return state.course if given.strategy in IN_PLACE else given


def updating(view: View) -> Decision:
    state = view.state
    early = _cut_short(view)
    if early is not None:
        return early
    ready = view.ready(state.candidate)
    if ready >= view.replicas and not others(state, view.context.observed, state.candidate):
        return view.move(Move.READY, f"{ready} of {view.replicas} replicas replaced")
    return view.hold(f"{ready} of {view.replicas} replicas replaced")


def analyzing(view: View) -> Decision:
    state, verdict = view.state, view.verdict
    early = _asked_back(view) or _superseded(view)
    if early is not None and not _serves_alone(view, early):
        return early
    is_sick = view.ready(state.candidate) < view.replicas
    bad = view.sign(state.candidate) or view.sick_for_long(state.candidate)
    if bad:
        return _given_up(view, bad)
    is_condemned = verdict is not None and verdict.known and verdict.action == "rollback"
    goes_back = is_condemned and view.runs(state.stable)
    asked = view.asks("promote")
    if asked is not None and not is_sick and not goes_back and _is_another(state):
        return view.move(Move.PROMOTE, f"promoted by {asked.actor or 'an operator'}")
    if early is not None and not goes_back:
        return _waits_for_stable(view, early, is_sick=is_sick)
    if not view.ready(state.stable) and not goes_back:
        ill = waiting_for(view.group(state.stable))
        return view.hold(f"waiting for the stable containers: {ill}; `promote` does without them", is_sick=is_sick)
    if is_sick and not is_condemned:
        return view.hold(f"waiting for the canary: {waiting_for(view.group(state.candidate))}", is_sick=True)
    if not is_condemned and not (view.is_at(state.weight_pct) and view.is_named(state.candidate)):
        return view.hold(f"moving to {state.weight_pct} %")
    return _judged(view, verdict)


def suspended(view: View) -> Decision:
    state, verdict = view.state, view.verdict
    early = _asked_back(view) or _superseded(view)
    if early is not None and not _serves_alone(view, early):
        return early
    bad = view.sign(state.candidate)
    if bad:
        return _given_up(view, bad)
    asked = view.asks("promote") if _is_another(state) else None
    if asked is not None and view.ready(state.candidate) >= view.replicas:
        return view.move(Move.PROMOTE, f"promoted by {asked.actor or 'an operator'}")
    if asked is not None:
        ill = waiting_for(view.group(state.candidate))
        return view.hold(f"{state.reason.partition(NOT_PROMOTED)[0]}{NOT_PROMOTED}{ill}; `promote` again once it is")
    if early is not None:
        return _waits_for_stable(view, early)
    answer = verdict if verdict is not None and verdict.known and not state.is_suspended_by_verdict else None
    if answer is not None and answer.action == "rollback" and not view.is_held:
        return _given_up(view, answer.reason)
    if view.asks("resume"):
        return view.move(Move.RESUME, f"resumed by {state.asked.actor if state.asked else ''}")
    if state.paused is not None:
        return view.hold(paused_words(state))
    if answer is not None and state.service not in view.context.unread:
        return view.move(Move.RESUME, "answers are back")
    return view.hold(state.reason)


def _cut_short(view: View) -> Decision | None:
    """What ends a start: the manifest, an operator, or containers that will not come up."""
    early = _asked_back(view) or _superseded(view)
    if early is not None:
        return early
    bad = view.sign(view.state.candidate) or view.never_healthy(view.state.candidate)
    return _given_up(view, bad) if bad else None


def _superseded(view: View) -> Decision | None:
    """The manifest asks for something else than the candidate: back to what runs, at once."""
    state, wanted = view.state, view.wanted
    assert state.candidate is not None, "a rollout without a candidate"
    if wanted is None and view.context.targets.missing:
        return None  # its image is still to come
    if wanted is None:
        return view.move(Move.DISMISS, "the service left the manifest")
    if wanted.revision != state.candidate.revision:
        if state.stable is None and state.candidate.revision == state.last_stable:
            return None  # a deployment after a teardown first brings back what ran before
        return view.move(Move.SUPERSEDE, "the manifest asks for something else now")
    if view.service is not None and view.service.route is None and state.course.steps:
        return view.move(Move.DISMISS, "the service has no route any more, so no canary")
    if state.stable is not None and state.stable.revision == wanted.revision and not view.is_held:
        return view.move(Move.DISMISS, "the manifest asks for no canary any more")
    return None


def _serves_alone(view: View, early: Decision) -> bool:
    """Nobody but the canary may answer what nginx sends it: it gives way once the stable containers are back."""
    state, proxy = view.state, view.context.observed.proxy
    is_asked_for = early.move is Move.SUPERSEDE or (early.move is Move.DISMISS and view.wanted is not None)
    is_routed = view.service is not None and view.service.route is not None
    has_its_share = proxy.weights.get(state.service, 0) == state.weight_pct > 0  # and gets no more by waiting
    gets_requests = has_its_share or not state.members(state.serving)
    return is_asked_for and is_routed and gets_requests and view.runs(state.candidate) and not _takes_over(view)


def _takes_over(view: View) -> bool:
    """Somebody of stable is ready and nginx names them; where nobody remembers what it runs, it knows older ones.

    An nginx that is yet to be started will know all of them.
    """
    seen, now = view.context.observed, view.context.now
    ready = [c for c in view.group(view.state.stable) if c.is_ready]
    if seen.proxy.named is not None:
        return any(c.address in seen.proxy.named for c in ready)
    known_s = view.service.rollout.health_deadline_s if view.service else 60.0
    runs = any(c.is_running for c in seen.of(PROXY))
    return any(not runs or c.uptime_s(now) > known_s for c in ready)


def _waits_for_stable(view: View, early: Decision, *, is_sick: bool = False) -> Decision:
    stable = view.state.stable
    ill = "nginx may not know the stable ones yet" if view.ready(stable) else waiting_for(view.group(stable))
    return view.hold(
        f"{early.reason}, but nobody else serves yet: {ill}; `promote` does without the stable containers",
        is_sick=is_sick,
    )


def _given_up(view: View, reason: str) -> Decision:
    """Roll back; a held canary is not tried again before the wish changes."""
    state, wanted = view.state, view.wanted
    is_wish = wanted is not None and state.candidate is not None and wanted.revision == state.candidate.revision
    return view.move(Move.GIVE_UP, reason, dismisses=wanted if view.is_held and is_wish else None)


def _asked_back(view: View) -> Decision | None:
    asked = view.asks("rollback")
    return _given_up(view, asked_back_words(asked)) if asked is not None else None


def _is_promotable(view: View) -> bool:
    """The candidate may replace what is stable: another revision, which the manifest asks for, and not as a canary."""
    return view.state.stable is None or (_is_another(view.state) and view.wanted is not None and not view.is_held)


def _is_another(state: ServiceRollout) -> bool:
    """The candidate is another revision than stable: a canary of the same one is only ever removed."""
    return (
        state.stable is not None and state.candidate is not None and state.candidate.revision != state.stable.revision
    )


def _judged(view: View, verdict: Verdict | None) -> Decision:
    """By what policy says; the time a step lasts and what an operator holds are no matters of policy."""
    state = view.state
    unread = view.context.unread.get(state.service, "")
    is_blind = bool(unread) and verdict is not None and verdict.action != "rollback"
    if verdict is None or not verdict.known or is_blind:
        why = unread if is_blind else (verdict.reason if verdict else "the policy engine was not asked")
        budget_s = view.service.rollout.unknown_budget_s if view.service else 300.0
        silent_s = view.context.now - state.unknown_since if state.unknown_since is not None else 0.0
        if silent_s > budget_s:
            return view.move(Move.SUSPEND, f"no answer for {silent_s:.0f} s: {why}")
        return view.hold(f"no answer: {why}", is_unknown=True)
    disputed = view.context.disputed.get(state.service)
    if disputed and verdict.action != "rollback":
        return _disputed(view, disputed)
    at = f"step {state.step + 1} of {len(state.course.steps)}, {state.weight_pct} %"
    if verdict.action == "rollback":
        if view.is_held:
            return view.move(Move.SUSPEND, f"{at}: {verdict.reason}", is_verdict=True)
        return _given_up(view, verdict.reason)
    if state.paused is not None:
        return view.hold(paused_words(state))
    if verdict.action != "promote":
        return view.hold(f"{at}: {verdict.reason}", is_observing=True)
    left_s = state.course.steps[state.step].duration_s - state.step_s
    if left_s > 0:
        return view.hold(f"{at}, {left_s:.0f} s to go", is_observing=True)
    if state.step + 1 < len(state.course.steps):
        return view.move(Move.ADVANCE, f"{at}: {verdict.reason}")
    if view.is_held:
        return view.hold(f"{at}: held by mode: canary; `promote` makes it stable", is_observing=True)
    if not _is_promotable(view):
        return view.hold(f"{at}: {view.unknown_wish or 'the same revision is stable'}", is_observing=True)
    return view.move(Move.PROMOTE, verdict.reason)


def _disputed(view: View, words: str) -> Decision:
    """Who cannot be believed gets no requests for long: back to 0 until an operator has looked."""
    since = view.state.unknown_since
    if since is not None and view.context.now - since > DISPUTE_S:
        return view.move(Move.SUSPEND, f"the service and nginx disagree: {words}", is_verdict=True)
    return view.hold(f"the service and nginx disagree: {words}", is_unknown=True)
