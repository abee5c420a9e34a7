"""The way back to what was stable before."""

from __future__ import annotations

from reconciler.core.decide.promotion import ALL
from reconciler.core.decide.view import View
from reconciler.core.membership import others
from reconciler.core.rollout import Decision, Move

RETURN_PATIENCE_S = 15.0
"""How long a roll back waits for its last replica once the first one serves."""


def returning(view: View) -> Decision:
    state = view.state
    ready = view.ready(state.parked)
    if ready >= view.replicas or (ready and view.context.now - state.since > RETURN_PATIENCE_S):
        return view.move(Move.READY, state.reason)
    return view.hold(state.reason)


def restoring(view: View) -> Decision:
    if view.is_at(ALL if view.state.kept else 0):
        return view.move(Move.SWITCHED, view.state.reason)
    return view.hold(view.state.reason)


def rolling_back(view: View) -> Decision:
    if not others(view.state, view.context.observed, view.state.stable):
        return view.move(Move.REMOVED, view.state.reason)
    return view.hold(view.state.reason)
