"""Whose requests are measured in this cycle, against whose, and whether anybody is to judge."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.core.desired import DesiredState, Mode, Service, digest
from reconciler.core.membership import of_group
from reconciler.core.observed import ObservedContainer, ObservedState, Slot
from reconciler.core.rollout import Group, Phase, Rollout, ServiceRollout


@dataclass(frozen=True, slots=True)
class Trial:
    """One service being measured.

    `about` names what the evidence is for: another text means starting afresh. `tried` are the containers on
    trial, `beside` those they are compared with. `probed` are the slots that get requests of our own. `share` is
    the share of requests that `tried` is meant to get, None where that is not exact. `is_judged`: policy is to be
    asked about it.
    """

    service: Service
    state: ServiceRollout
    about: str
    tried: tuple[ObservedContainer, ...]
    beside: tuple[ObservedContainer, ...] = ()
    probed: tuple[Slot, ...] = ()
    share: float | None = None
    is_judged: bool = False
    is_held: bool = False

    @property
    def horizon_s(self) -> float:
        """How long the evidence may have to last."""
        rollout = self.service.rollout
        return max(rollout.max_wait_s + sum(step.duration_s for step in rollout.steps), rollout.watch_s)


def trials(desired: DesiredState, rollout: Rollout, observed: ObservedState) -> tuple[Trial, ...]:
    """Every service that has something to be measured: a canary beside stable, else what serves."""
    limits = digest({"limits": dict(desired.limits.get("canary", {}))})[:12]
    found = (_trial(service, desired, rollout.of(service.name), observed, limits) for service in desired.services)
    return tuple(trial for trial in found if trial is not None and trial.tried)


_CANARY = (Phase.ANALYZING, Phase.SUSPENDED)
_ALONE = (Phase.PROMOTING, Phase.PARKING, Phase.RENEWING, Phase.HALTED, Phase.SWITCHING)


def _trial(
    service: Service, desired: DesiredState, state: ServiceRollout, observed: ObservedState, limits: str
) -> Trial | None:
    if service.port is None or service.route is None:
        return None

    def running(group: Group | None) -> tuple[ObservedContainer, ...]:
        return tuple(c for c in of_group(observed, service.name, group) if c.is_running)

    if state.phase in _CANARY and state.candidate is not None:
        seen = observed.proxy.weights.get(service.name)
        is_exact = not service.route.sticky and seen == state.weight_pct and 0 < state.weight_pct < 100
        return Trial(
            service,
            state,
            f"canary/{state.candidate.revision}/{state.run}/{limits}",
            running(state.candidate),
            running(state.stable),
            tuple(Slot),
            state.weight_pct / 100 if is_exact else None,
            is_judged=True,
            is_held=service.mode is Mode.CANARY,
        )
    if state.phase in _ALONE and state.candidate is not None:
        return Trial(
            service, state, f"canary/{state.candidate.revision}/{state.run}/{limits}", running(state.candidate)
        )
    if state.stable is None:
        return None
    is_watched = state.phase is Phase.WATCHING
    what = f"watch/{state.run}" if is_watched else "stable"
    about = f"{what}/{state.stable.revision}/{limits}"
    probed = (state.serving,) if is_watched else ()
    return Trial(service, state, about, running(state.stable), probed=probed, is_judged=is_watched)


def was_returned(before: str, about: str) -> bool:
    """Whether another release is stable now, and no canary came between (two trials' `about`, one after the other).

    What a release did that was taken back is not stable's history: its errors would pass for stable's bursts.
    """
    return about.startswith("stable/") and _stable_in(before) not in ("", _stable_in(about))


def _stable_in(about: str) -> str:
    """Which revision was stable while only that was measured; "" while a canary was."""
    words = about.split("/")
    return {"stable": words[1:2], "watch": words[2:3]}.get(words[0], [""])[0]
