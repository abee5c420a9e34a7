"""The candidate takes over, from the first moment it carries everything to the end of the watch."""

from __future__ import annotations

from reconciler.core.decide.view import View, asked_back_words, waiting_for
from reconciler.core.membership import others
from reconciler.core.rollout import Decision, Group, Move, Release, ServiceRollout

ALL = 100
"""The weight that means: every request."""


HICCUP_S = 1.0
"""How long a canary that carries all requests may fail its health check while the old containers still run."""


def promoting(view: View) -> Decision:
    back = _back_again(view) or _carrier_is_lost(view)
    if back is not None:
        return back
    if view.is_at(ALL):
        return view.move(Move.SWITCHED, "all requests go to the new revision")
    return view.hold("moving all requests to the new revision", is_sick=not view.ready(view.state.candidate))


def turning(view: View) -> Decision:
    if view.is_at(0):
        return view.move(Move.SWITCHED, view.state.reason)
    return view.hold(view.state.reason)


def parking(view: View) -> Decision:
    state = view.state
    back = _back_again(view) or _carrier_is_lost(view)
    if back is not None:
        return back
    if not any(container.is_running or container.has_run_on for container in view.group(state.parked)):
        return view.move(Move.PARKED, "the old containers are stopped, and kept")
    return view.hold("waiting for the old containers to finish", is_sick=not view.ready(_carrier(state)))


def renewing(view: View) -> Decision:
    state = view.state
    back = _back_again(view) or _carrier_is_lost(view)
    if back is not None:
        return back
    bad = view.sign(state.fresh) or view.never_healthy(state.fresh)
    if bad:
        return view.move(Move.HALT, f"the new stable containers are not well: {bad}")
    ready = view.ready(state.fresh)
    if ready >= view.replicas:
        return view.move(Move.READY, f"{ready} of {view.replicas} new stable replicas ready")
    return view.hold(
        f"starting the new stable containers: {view.waiting(state.fresh)}",
        is_sick=not view.ready(state.candidate),
    )


def halted(view: View) -> Decision:
    state, wanted = view.state, view.wanted
    back = _back_again(view) or _carrier_is_lost(view)
    if back is not None:
        return back
    if view.asks("retry"):
        return view.move(Move.RESUME, f"tried again by {state.asked.actor if state.asked else ''}")
    if wanted is not None and state.candidate is not None and wanted.revision != state.candidate.revision:
        return view.move(Move.RETURN, "the manifest asks for something else now", dismisses=state.candidate.release)
    return view.hold(state.reason, is_sick=not view.ready(state.candidate))


def switching(view: View) -> Decision:
    state = view.state
    if view.is_at(0):
        return view.move(Move.SWITCHED, "all requests go to the new stable containers")
    is_sick = not view.ready(state.fresh)
    bad = view.sign(state.fresh) or view.sick_for_long(state.fresh)
    if is_sick and bad:
        return view.move(Move.HALT, f"the new stable containers are not well: {bad}")
    return view.hold("moving all requests to the new stable containers", is_sick=is_sick)


def settling(view: View) -> Decision:
    state = view.state
    back = _back_again(view) or _carrier_is_lost(view)
    if back is not None:
        return back
    if not others(state, view.context.observed, state.stable, state.kept):
        return view.move(Move.REMOVED, "promoted; the old revision is kept while we watch")
    return view.hold("removing the canary", is_sick=not view.ready(state.stable))


def watching(view: View) -> Decision:
    state, verdict, wanted = view.state, view.verdict, view.wanted
    back = _back_again(view)
    if back is not None:
        return back
    is_sick = view.ready(state.stable) < view.replicas
    bad = view.sign(state.stable) or view.sick_for_long(state.stable)
    if bad:
        return view.move(Move.RETURN, f"the new revision went bad after its promotion: {bad}")
    if verdict is not None and verdict.known and verdict.action == "rollback":
        return view.move(Move.RETURN, verdict.reason)
    if wanted is not None and state.stable is not None and wanted.revision != state.stable.revision:
        return view.move(Move.SETTLED, "a newer revision is wanted")
    window_s = view.service.rollout.watch_s if view.service else 0.0
    left_s = window_s - (view.context.now - state.since)
    if left_s > 0:
        return view.hold(f"watching the new revision, {left_s:.0f} s to go", is_sick=is_sick)
    is_judged = view.service is not None and view.service.route is not None and view.service.port is not None
    is_silent = is_judged and (verdict is None or not verdict.known)
    if is_sick or is_silent:
        why = waiting_for(view.group(state.stable)) if is_sick else (verdict.reason if verdict else "policy is silent")
        return view.hold(f"watching on: {why}", is_sick=is_sick)
    return view.move(Move.SETTLED, "nothing bad was seen")


def _back_again(view: View) -> Decision | None:
    """What takes a promotion back: an operator, the manifest, or a canary that died while it carried everything."""
    state, wanted, asked = view.state, view.wanted, view.asks("rollback")
    if asked is not None:
        return view.move(Move.RETURN, asked_back_words(asked))
    parked = state.parked
    new = state.stable if state.kept else state.candidate
    if (
        wanted is not None
        and parked is not None
        and new is not None
        and new.revision != parked.revision == wanted.revision
    ):
        return view.move(
            Move.RETURN, "the manifest asks for the old revision again", dismisses=Release(new.revision, wanted.mode)
        )
    return None


def _carrier(state: ServiceRollout) -> Group | None:
    """Whoever has every request: the canary, or once they have taken over what is stable from now on."""
    return state.candidate if state.carries_all else state.stable


def _carrier_is_lost(view: View) -> Decision | None:
    """Nobody of the new revision serves. Soon where the old containers still run, else once there is no hope left."""
    state, carrier = view.state, _carrier(view.state)
    if view.ready(carrier):
        return None
    bad = view.sign(carrier) or view.sick_for_long(carrier)
    if not bad and view.ready(state.parked) and state.sick_since is not None:
        is_clear = view.context.now - state.sick_since >= HICCUP_S
        bad = waiting_for(view.group(carrier)) if is_clear else ""
    who = "the canary failed while it" if state.carries_all else "the new revision failed as soon as it"
    return view.move(Move.RETURN, f"{who} carried all requests: {bad}") if bad else None
