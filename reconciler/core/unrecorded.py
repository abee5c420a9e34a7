"""What may be done while nothing can be written down: keep what runs, and give requests back to it. Nothing new."""

from __future__ import annotations

from reconciler.core.observed import ObservedState
from reconciler.core.plan import Action, CreateContainer, RemoveContainer, SetTraffic, StopContainer
from reconciler.core.rollout import WAY_BACK, Phase, Rollout

LABEL = "io.swiftdeploy."


def needs_record(action: Action, rollout: Rollout, observed: ObservedState) -> bool:
    """`action` carries a rollout on, or takes something away: not without a record that it was meant.

    Healing what is stable, and everything on the way back to it, goes on without; so does an operator's teardown.
    """
    if rollout.torn_down:
        return False
    match action:
        case CreateContainer(labels=labels):
            said = dict(labels)
            service, revision = said.get(f"{LABEL}service", ""), said.get(f"{LABEL}revision", "")
            return service in rollout.services and not _keeps_stable(rollout, service, revision)
        case SetTraffic(service=service, weight_pct=weight):
            return weight > observed.proxy.weights.get(service, 0) and rollout.of(service).phase not in WAY_BACK
        case StopContainer(container_id=ref) | RemoveContainer(container_id=ref):
            service = next((c.service for c in observed.engine.containers if c.id == ref), "")
            return service in rollout.services and rollout.of(service).phase not in WAY_BACK
        case _:
            return False


def _keeps_stable(rollout: Rollout, service: str, revision: str) -> bool:
    state = rollout.of(service)
    return state.phase in WAY_BACK or (
        state.phase is not Phase.UPDATING and state.stable is not None and state.stable.revision == revision
    )
