"""One service as a decision sees it: its state beside what is observed and wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.core.desired import Mode, Service
from reconciler.core.membership import of_group
from reconciler.core.observed import ObservedContainer, ObservedState
from reconciler.core.record import Verdict
from reconciler.core.rollout import Asked, Decision, Group, Move, Phase, Release, ServiceRollout
from reconciler.core.signs import bad_sign, may_be_back, went_with_the_host
from reconciler.core.targets import Targets
from reconciler.core.windows import Outlook


@dataclass(frozen=True, slots=True)
class Context:
    """All a decision is made from.

    `gate` is the infrastructure verdict, None where it could not be asked. `verdicts` are the canary policy's,
    by service; one that is absent was not asked, for want of anything to ask about. `troubles` is what
    the engine said of containers, by name, that it could not create or start; `disputed` how a service's own count
    contradicts nginx's, `unread` why there is no count. `now` is seconds since the epoch. `outlooks` say when the sync
    windows are open.
    """

    targets: Targets
    observed: ObservedState
    now: float
    gate: Verdict | None = None
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    troubles: Mapping[str, str] = field(default_factory=dict)
    disputed: Mapping[str, str] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)
    outlooks: Sequence[Outlook] = ()


@dataclass(frozen=True, slots=True)
class View:
    """One service's state beside what is seen and wanted of it."""

    state: ServiceRollout
    context: Context

    @property
    def wanted(self) -> Release | None:
        return self.context.targets.wanted.get(self.state.service)

    @property
    def service(self) -> Service | None:
        """The service as the manifest has it, else as the newest revision of the rollout has it."""
        revisions = [self.wanted.revision] if self.wanted else []
        revisions += [group.revision for group in self.state.groups]
        return next((k.service for r in revisions if (k := self.context.targets.kept.get(r))), None)

    @property
    def replicas(self) -> int:
        return self.service.replicas if self.service else 1

    @property
    def is_held(self) -> bool:
        """The manifest keeps a canary: it is never promoted by itself."""
        return self.wanted is not None and self.wanted.mode is Mode.CANARY

    @property
    def unknown_wish(self) -> str:
        """Why nobody knows what the manifest asks for; "" where it is known."""
        missing = ", ".join(self.context.targets.missing)
        return f"waiting for images: {missing}" if self.wanted is None and missing else ""

    @property
    def verdict(self) -> Verdict | None:
        return self.context.verdicts.get(self.state.service)

    def is_at(self, weight_pct: int) -> bool:
        """nginx answers, and its flags say so; a service that nobody is routed to has no weight to wait for."""
        is_routed, proxy = self.service is not None and self.service.route is not None, self.context.observed.proxy
        is_there = proxy.live_hash is not None and proxy.weights.get(self.state.service) == weight_pct
        return not is_routed or is_there

    def is_named(self, group: Group | None) -> bool:
        """The configuration that nginx runs names all of `group` who are ready, as far as that is known."""
        named = self.context.observed.proxy.named
        is_routed = self.service is not None and self.service.route is not None
        return not is_routed or named is None or all(c.address in named for c in self.group(group) if c.is_ready)

    def asks(self, what: str) -> Asked | None:
        asked = self.state.asked
        return asked if asked is not None and asked.what == what else None

    def group(self, group: Group | None) -> tuple[ObservedContainer, ...]:
        return of_group(self.context.observed, self.state.service, group)

    def ready(self, group: Group | None) -> int:
        return sum(container.is_ready for container in self.group(group))

    def runs(self, group: Group | None) -> bool:
        return any(container.is_running for container in self.group(group))

    def hold(self, reason: str = "", **facts: bool) -> Decision:
        return Decision(self.state.service, Move.HOLD, reason, **facts)  # type: ignore[arg-type]

    def move(self, move: Move, reason: str, **facts: object) -> Decision:
        return Decision(self.state.service, move, reason, **facts)  # type: ignore[arg-type]

    def sign(self, group: Group | None) -> str:
        """What alone shows that `group` cannot serve; "" where nothing does."""
        now, seen = self.context.now, self.context.observed
        found = [bad_sign(c) for c in self.group(group) if not (went_with_the_host(c, seen) or may_be_back(c, now))]
        return next((sign for sign in found if sign), "")

    def never_healthy(self, group: Group | None) -> str:
        service = self.service
        deadline_s = service.rollout.health_deadline_s if service else 60.0
        containers = self.group(group)
        late = any(not c.is_ready and self.age_s(c) > deadline_s for c in containers if c.is_running)
        if late:
            return f"not healthy within {deadline_s:g} s: {waiting_for(containers)}"
        is_short = len(containers) < self.replicas and self.state.phase is not Phase.UPDATING
        if is_short and self.context.now - self.state.since > deadline_s:
            return f"not there within {deadline_s:g} s: {self.trouble or 'it could not be created'}"
        return ""

    def age_s(self, container: ObservedContainer) -> float:
        """How long it has run, at most as long as the phase lasts; that, where it began in what is now the future."""
        phase_s, uptime_s = self.context.now - self.state.since, container.uptime_s(self.context.now)
        return min(phase_s, uptime_s) if uptime_s > 0 else phase_s

    @property
    def trouble(self) -> str:
        """What the engine said when one of the service's containers could not be created or started; "" if nothing."""
        return "; ".join(why for name, why in self.context.troubles.items() if f"-{self.state.service}-" in name)

    def waiting(self, group: Group | None) -> str:
        """What is waited for, with the engine's own words where it refuses."""
        return "; ".join(filter(None, [waiting_for(self.group(group)), self.trouble]))

    def sick_for_long(self, group: Group | None) -> str:
        """Replicas that were healthy fail their health check longer than its retries allow.

        One that was just started again, as after a reboot, has the time of a new one.
        """
        if self.state.sick_since is None or self.ready(group) >= self.replicas:
            return ""
        deadline_s = self.service.rollout.health_deadline_s if self.service else 60.0
        sick = [c for c in self.group(group) if not c.is_ready]
        if any(c.is_running and c.uptime_s(self.context.now) < deadline_s for c in sick):
            return ""
        check = self.service.healthcheck if self.service else None
        patience_s = check.interval_s * check.retries if check else 15.0
        lasted_s = self.context.now - self.state.sick_since
        return f"unhealthy for {lasted_s:.0f} s: {waiting_for(self.group(group))}" if lasted_s > patience_s else ""


def waiting_for(containers: tuple[ObservedContainer, ...]) -> str:
    """Which containers are not ready, and what each says of itself."""
    sick = [f"{c.name}: {c.health_detail or c.status}" for c in containers if not c.is_ready]
    return "; ".join(sick) or "waiting for containers"


def paused_words(state: ServiceRollout) -> str:
    """Who paused it, and why."""
    assert state.paused is not None, "not paused"
    who = f"paused by {state.paused.actor or 'an operator'}"
    return f"{who}: {state.paused.reason}" if state.paused.reason else who


def asked_back_words(asked: Asked) -> str:
    """Who took it back, and why."""
    who = f"rolled back by {asked.actor or 'an operator'}"
    return f"{who}: {asked.reason}" if asked.reason else who
