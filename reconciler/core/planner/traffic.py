"""The flags: which share of a service's requests goes to the slot that is not the default one."""

from __future__ import annotations

from reconciler.core.plan import SetTraffic
from reconciler.core.planner.draft import Draft
from reconciler.core.planner.groups import way_back
from reconciler.core.rollout import Group, Phase, ServiceRollout

_DOWN_AT_ONCE = frozenset({Phase.ANALYZING, Phase.SUSPENDED, Phase.ROLLING_BACK})
"""Phases in which less weight means more for a stable slot that the running configuration knows."""


def plan_traffic(draft: Draft, state: ServiceRollout, proxy: int | None) -> int | None:
    """Move the flags. Up only behind a configuration that knows both slots; down to a proven slot at once."""
    if draft.services[state.service].route is None:
        return None
    seen, weight = draft.observed.proxy.weights.get(state.service), _weight(draft, state)
    if weight is None or seen == weight:
        return None
    at_once = seen is not None and weight < seen and state.phase in _DOWN_AT_ONCE and _is_named(draft, state)
    return draft.add(
        SetTraffic(state.service, weight),
        f"{state.service} → {weight} %",
        state.reason or "the default slot serves",
        None if at_once else proxy,
    )


def _weight(draft: Draft, state: ServiceRollout) -> int | None:
    """The share, by the phase and by who can serve; None where requests stay where they are."""
    match state.phase:
        case Phase.ANALYZING if not draft.has_ready(state, state.candidate):
            return 0 if draft.has_ready(state, state.stable) or not _runs(draft, state, state.candidate) else None
        case Phase.PROMOTING if not draft.has_ready(state, state.candidate):
            return None
        case Phase.SWITCHING if not draft.has_ready(state, state.fresh):
            return None
        case Phase.RETURNING:
            return None  # until the old containers are well
        case Phase.RESTORING:
            return _restored(draft, state)
        case _:
            return state.weight_pct


def _restored(draft: Draft, state: ServiceRollout) -> int | None:
    """Everything to the old ones, unless they went bad at the last moment: badly answered is better than not at all."""
    old, new = way_back(state)
    is_old_still = bool(draft.here(state, old)) and not _runs(draft, state, old)
    may_serve = draft.has_ready(state, new) or (is_old_still and _runs(draft, state, new))
    if may_serve and not draft.has_ready(state, old):
        return None
    return 0 if state.kept is None else 100


def _runs(draft: Draft, state: ServiceRollout, group: Group | None) -> bool:
    return any(container.is_running for container in draft.here(state, group))


def _is_named(draft: Draft, state: ServiceRollout) -> bool:
    """The configuration that nginx runs names somebody of stable who runs, as far as that is known.

    Where nginx does not say which one it runs, each that it may be running has to.
    """
    proxy = draft.observed.proxy
    running = [c.address for c in draft.here(state, state.stable) if c.is_running]
    known = proxy.may_name if proxy.named is None else (proxy.named,)
    return all(not named.isdisjoint(running) for named in known)
