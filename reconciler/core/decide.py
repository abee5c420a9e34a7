"""What we do about each service: the only place where a rollout's next move is chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.core.desired import Mode, Service, Step, Strategy
from reconciler.core.membership import of_group, others
from reconciler.core.observed import ObservedContainer, ObservedState
from reconciler.core.record import Verdict
from reconciler.core.rollout import (
    IN_PLACE,
    Asked,
    Course,
    Decision,
    Group,
    Move,
    Phase,
    Release,
    Rollout,
    ServiceRollout,
)
from reconciler.core.signs import bad_sign, may_be_back, went_with_the_host
from reconciler.core.targets import Targets

ALL = 100
"""The weight that means: every request."""

LONGEST_TICK_S = 30.0
"""A longer silence between two cycles was not observed, so no clock of a rollout runs through it."""

HICCUP_S = 1.0
"""How long a canary that carries all requests may fail its health check while the old containers still run."""

DISPUTE_S = 30.0
"""How long a canary whose own count contradicts nginx's keeps its requests: one window of the policy's default."""

RETURN_PATIENCE_S = 15.0
"""How long a roll back waits for its last replica once the first one serves."""


@dataclass(frozen=True, slots=True)
class Context:
    """All a decision is made from.

    `gate` is the infrastructure verdict, None where it could not be asked. `verdicts` are the canary policy's,
    by service; one that is absent was not asked, for want of anything to ask about. `troubles` is what
    the engine said of containers, by name, that it could not create or start; `disputed` how a service's own count
    contradicts nginx's, `unread` why there is no count. `now` is seconds since the epoch.
    """

    targets: Targets
    observed: ObservedState
    now: float
    gate: Verdict | None = None
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    troubles: Mapping[str, str] = field(default_factory=dict)
    disputed: Mapping[str, str] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)


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


def wish_changed(rollout: Rollout, targets: Targets) -> Rollout:
    """The rollout without dismissals of what is not wished for any more: wished for again, it is tried again."""
    stale = {
        name: dataclasses.replace(state, dismissed=None)
        for name, state in rollout.services.items()
        if state.dismissed is not None and targets.wanted.get(name, state.dismissed) != state.dismissed
    }
    return dataclasses.replace(rollout, services={**rollout.services, **stale}) if stale else rollout


def decide(rollout: Rollout, context: Context) -> tuple[Decision, ...]:
    """One decision for every service that is wanted or still has state; HOLD where nothing is to be done."""
    names = dict.fromkeys((*context.targets.wanted, *rollout.services))
    return tuple(_decide(rollout, rollout.of(name), context) for name in names)


def _decide(rollout: Rollout, state: ServiceRollout, context: Context) -> Decision:
    if rollout.torn_down:
        return Decision(state.service, Move.HOLD, "torn down; `deploy` brings it back")
    return _BY_PHASE[state.phase](_View(state, context))


@dataclass(frozen=True, slots=True)
class _View:
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
    def verdict(self) -> Verdict | None:
        return self.context.verdicts.get(self.state.service)

    def is_at(self, weight_pct: int) -> bool:
        """nginx's flags say so; a service that nobody is routed to has no weight to wait for."""
        is_routed = self.service is not None and self.service.route is not None
        return not is_routed or self.context.observed.proxy.weights.get(self.state.service) == weight_pct

    def asks(self, what: str) -> Asked | None:
        asked = self.state.asked
        return asked if asked is not None and asked.what == what else None

    def group(self, group: Group | None) -> tuple[ObservedContainer, ...]:
        return of_group(self.context.observed, self.state.service, group)

    def ready(self, group: Group | None) -> int:
        return sum(container.is_ready for container in self.group(group))

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
        late = any(not c.is_ready and c.uptime_s(self.context.now) > deadline_s for c in containers if c.is_running)
        if late:
            return f"not healthy within {deadline_s:g} s: {_waiting_for(containers)}"
        is_short = len(containers) < self.replicas and self.state.phase is not Phase.UPDATING
        if is_short and self.context.now - self.state.since > deadline_s:
            return f"not there within {deadline_s:g} s: {self.trouble or 'it could not be created'}"
        return ""

    @property
    def trouble(self) -> str:
        """What the engine said when one of the service's containers could not be created or started; "" if nothing."""
        return "; ".join(why for name, why in self.context.troubles.items() if f"-{self.state.service}-" in name)

    def waiting(self, group: Group | None) -> str:
        """What is waited for, with the engine's own words where it refuses."""
        return "; ".join(filter(None, [_waiting_for(self.group(group)), self.trouble]))

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
        return f"unhealthy for {lasted_s:.0f} s: {_waiting_for(self.group(group))}" if lasted_s > patience_s else ""


# ---------------------------------------------------------------- at rest


def _at_rest(view: _View) -> Decision:
    state, wanted = view.state, view.wanted
    if wanted is None:
        missing = ", ".join(view.context.targets.missing)
        return view.hold(f"waiting for images: {missing}" if missing else "")
    release = _next_release(view, wanted)
    if release is None:
        return view.hold()
    if wanted == state.dismissed and state.stable is not None:
        why = f" ({state.why_rolled_back})" if state.why_rolled_back else ""
        return view.hold(f"the canary was dismissed{why}; change the manifest, or `retry --reason …`")
    if release.revision in state.quarantined:
        why = f" ({state.why_rolled_back})" if release.revision == state.quarantined[-1] else ""
        return view.hold(
            f"revision {release.revision[:12]} was rolled back before{why} and is quarantined; "
            "change the service, or `retry --reason …`"
        )
    if state.paused is not None and state.stable is not None:
        return view.hold(_paused(state))
    taken = "; ".join(
        f"port {port} is taken by {who}" for port, who in view.context.observed.engine.ports_taken.items()
    )
    if taken and state.stable is None:
        return view.hold(taken)
    gate = view.context.gate
    if gate is None:
        return view.hold("waiting for the policy engine")
    if not gate.allow:
        return view.hold(f"{'DENIED' if gate.known else 'policy engine failed'}: {gate.reason}")
    course = course_of(view.service) if view.service and state.stable else Course()
    return view.move(Move.START, _start_reason(state, release), release=release, course=course)


def _next_release(view: _View, wanted: Release) -> Release | None:
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
        return "first deployment" if not state.last_stable else "back to the last stable revision"
    if state.stable.revision == release.revision:
        return f"a canary of the stable revision {release.revision[:12]}"
    return f"revision {state.stable.revision[:12]} → {release.revision[:12]}"


def _paused(state: ServiceRollout) -> str:
    assert state.paused is not None, "not paused"
    return f"paused by {state.paused.actor or 'an operator'}" + (
        f": {state.paused.reason}" if state.paused.reason else ""
    )


# ---------------------------------------------------------------- before the promotion


def _superseded(view: _View) -> Decision | None:
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


def _given_up(view: _View, reason: str) -> Decision:
    """Roll back; a held canary is not tried again before the wish changes."""
    return view.move(Move.GIVE_UP, reason, dismisses=view.wanted if view.is_held else None)


def _asked_back(view: _View) -> Decision | None:
    asked = view.asks("rollback")
    if asked is None:
        return None
    who = f"rolled back by {asked.actor or 'an operator'}"
    return _given_up(view, f"{who}: {asked.reason}" if asked.reason else who)


def _starting(view: _View) -> Decision:
    state = view.state
    early = _superseded(view) or _asked_back(view)
    if early is not None:
        return early
    bad = view.sign(state.candidate) or view.never_healthy(state.candidate)
    if bad:
        return _given_up(view, bad)
    ready = view.ready(state.candidate)
    if ready < view.replicas:
        return view.hold(view.waiting(state.candidate))
    if state.paused is not None and state.stable is not None:
        return view.hold(_paused(state))
    if state.stable is not None and not state.course.steps and not _is_promotable(view):
        return view.hold("there are no steps that it could be kept at; give rollout.steps, or use mode: stable")
    return view.move(Move.READY, f"{ready} of {view.replicas} replicas ready")


def _is_promotable(view: _View) -> bool:
    """The candidate may replace what is stable: another revision, and not one that the manifest keeps as a canary."""
    stable, candidate = view.state.stable, view.state.candidate
    return stable is None or (candidate is not None and candidate.revision != stable.revision and not view.is_held)


def _analyzing(view: _View) -> Decision:
    state, verdict = view.state, view.verdict
    early = _superseded(view) or _asked_back(view)
    if early is not None:
        return early
    is_sick = view.ready(state.candidate) < view.replicas
    bad = view.sign(state.candidate) or view.sick_for_long(state.candidate)
    if bad:
        return _given_up(view, bad)
    asked = view.asks("promote")
    if asked is not None and not is_sick and _is_another(state):
        return view.move(Move.PROMOTE, f"promoted by {asked.actor or 'an operator'}")
    if not view.ready(state.stable):
        return view.hold("waiting: the stable containers are being healed", is_sick=is_sick)
    if is_sick:
        return view.hold(f"waiting for the canary: {_waiting_for(view.group(state.candidate))}", is_sick=True)
    if not view.is_at(state.weight_pct):
        return view.hold(f"moving to {state.weight_pct} %")
    return _judged(view, verdict)


def _is_another(state: ServiceRollout) -> bool:
    """The candidate is another revision than stable: a canary of the same one is only ever removed."""
    return (
        state.stable is not None and state.candidate is not None and state.candidate.revision != state.stable.revision
    )


def _judged(view: _View, verdict: Verdict | None) -> Decision:
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
        return view.hold(_paused(state))
    if verdict.action != "promote":
        return view.hold(f"{at}: {verdict.reason}", is_observing=True)
    left_s = state.course.steps[state.step].duration_s - state.step_s
    if left_s > 0:
        return view.hold(f"{at}, {left_s:.0f} s to go", is_observing=True)
    if state.step + 1 < len(state.course.steps):
        return view.move(Move.ADVANCE, f"{at}: {verdict.reason}")
    if view.is_held:
        return view.hold(f"{at}: held by mode: canary; `promote` makes it stable", is_observing=True)
    return view.move(Move.PROMOTE, verdict.reason)


def _disputed(view: _View, words: str) -> Decision:
    """Who cannot be believed gets no requests for long: back to 0 until an operator has looked."""
    since = view.state.unknown_since
    if since is not None and view.context.now - since > DISPUTE_S:
        return view.move(Move.SUSPEND, f"the service and nginx disagree: {words}", is_verdict=True)
    return view.hold(f"the service and nginx disagree: {words}", is_unknown=True)


def _suspended(view: _View) -> Decision:
    state, verdict = view.state, view.verdict
    early = _superseded(view) or _asked_back(view)
    if early is not None:
        return early
    bad = view.sign(state.candidate)
    if bad:
        return _given_up(view, bad)
    if view.asks("promote") and view.ready(state.candidate) >= view.replicas and _is_another(state):
        return view.move(Move.PROMOTE, f"promoted by {state.asked.actor if state.asked else ''}")
    if view.asks("resume"):
        return view.move(Move.RESUME, f"resumed by {state.asked.actor if state.asked else ''}")
    if state.paused is not None:
        return view.hold(_paused(state))
    is_back = verdict is not None and verdict.known and state.service not in view.context.unread
    if not state.is_suspended_by_verdict and is_back:
        return view.move(Move.RESUME, "answers are back")
    return view.hold(state.reason)


# ---------------------------------------------------------------- the promotion


def _back_again(view: _View) -> Decision | None:
    """What takes a promotion back: an operator, the manifest, or a canary that died while it carried everything."""
    state, wanted, asked = view.state, view.wanted, view.asks("rollback")
    if asked is not None:
        who = f"rolled back by {asked.actor or 'an operator'}"
        return view.move(Move.RETURN, f"{who}: {asked.reason}" if asked.reason else who)
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


def _carrier_is_lost(view: _View) -> Decision | None:
    """No replica of the canary serves. Soon where the old containers still run, else once there is no hope left."""
    state = view.state
    if view.ready(state.candidate):
        return None
    bad = view.sign(state.candidate) or view.sick_for_long(state.candidate)
    if not bad and view.ready(state.parked) and state.sick_since is not None:
        is_clear = view.context.now - state.sick_since >= HICCUP_S
        bad = _waiting_for(view.group(state.candidate)) if is_clear else ""
    return view.move(Move.RETURN, f"the canary failed while it carried all requests: {bad}") if bad else None


def _promoting(view: _View) -> Decision:
    back = _back_again(view) or _carrier_is_lost(view)
    if back is not None:
        return back
    if view.is_at(ALL):
        return view.move(Move.SWITCHED, "all requests go to the new revision")
    return view.hold("moving all requests to the new revision", is_sick=not view.ready(view.state.candidate))


def _turning(view: _View) -> Decision:
    if view.is_at(0):
        return view.move(Move.SWITCHED, view.state.reason)
    return view.hold(view.state.reason)


def _parking(view: _View) -> Decision:
    state = view.state
    back = _back_again(view) or (_carrier_is_lost(view) if state.carries_all else None)
    if back is not None:
        return back
    if not any(container.is_running or container.has_run_on for container in view.group(state.parked)):
        return view.move(Move.PARKED, "the old containers are stopped, and kept")
    return view.hold(
        "waiting for the old containers to finish", is_sick=state.carries_all and not view.ready(state.candidate)
    )


def _renewing(view: _View) -> Decision:
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


def _halted(view: _View) -> Decision:
    state, wanted = view.state, view.wanted
    back = _back_again(view) or _carrier_is_lost(view)
    if back is not None:
        return back
    if view.asks("retry"):
        return view.move(Move.RESUME, f"tried again by {state.asked.actor if state.asked else ''}")
    if wanted is not None and state.candidate is not None and wanted.revision != state.candidate.revision:
        return view.move(Move.RETURN, "the manifest asks for something else now", dismisses=state.candidate.release)
    return view.hold(state.reason, is_sick=not view.ready(state.candidate))


def _switching(view: _View) -> Decision:
    state = view.state
    if view.is_at(0):
        return view.move(Move.SWITCHED, "all requests go to the new stable containers")
    is_sick = not view.ready(state.fresh)
    bad = view.sign(state.fresh) or view.sick_for_long(state.fresh)
    if is_sick and bad:
        return view.move(Move.HALT, f"the new stable containers are not well: {bad}")
    return view.hold("moving all requests to the new stable containers", is_sick=is_sick)


def _settling(view: _View) -> Decision:
    state = view.state
    back = _back_again(view)
    if back is not None:
        return back
    if not others(state, view.context.observed, state.stable, state.kept):
        return view.move(Move.REMOVED, "promoted; the old revision is kept while we watch")
    return view.hold("removing the canary")


def _watching(view: _View) -> Decision:
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
        why = _waiting_for(view.group(state.stable)) if is_sick else (verdict.reason if verdict else "policy is silent")
        return view.hold(f"watching on: {why}", is_sick=is_sick)
    return view.move(Move.SETTLED, "nothing bad was seen")


# ---------------------------------------------------------------- the way back


def _returning(view: _View) -> Decision:
    state = view.state
    ready = view.ready(state.parked)
    if ready >= view.replicas or (ready and view.context.now - state.since > RETURN_PATIENCE_S):
        return view.move(Move.READY, state.reason)
    return view.hold(state.reason)


def _restoring(view: _View) -> Decision:
    if view.is_at(ALL if view.state.kept else 0):
        return view.move(Move.SWITCHED, view.state.reason)
    return view.hold(view.state.reason)


def _rolling_back(view: _View) -> Decision:
    if not others(view.state, view.context.observed, view.state.stable):
        return view.move(Move.REMOVED, view.state.reason)
    return view.hold(view.state.reason)


def _updating(view: _View) -> Decision:
    state = view.state
    early = _superseded(view) or _asked_back(view)
    if early is not None:
        return early
    bad = view.sign(state.candidate) or view.never_healthy(state.candidate)
    if bad:
        return _given_up(view, bad)
    ready = view.ready(state.candidate)
    if ready >= view.replicas and not others(state, view.context.observed, state.candidate):
        return view.move(Move.READY, f"{ready} of {view.replicas} replicas replaced")
    return view.hold(f"{ready} of {view.replicas} replicas replaced")


_BY_PHASE = {
    Phase.ABSENT: _at_rest,
    Phase.STABLE: _at_rest,
    Phase.STARTING: _starting,
    Phase.ANALYZING: _analyzing,
    Phase.SUSPENDED: _suspended,
    Phase.PROMOTING: _promoting,
    Phase.TURNING: _turning,
    Phase.PARKING: _parking,
    Phase.RENEWING: _renewing,
    Phase.HALTED: _halted,
    Phase.SWITCHING: _switching,
    Phase.SETTLING: _settling,
    Phase.WATCHING: _watching,
    Phase.RETURNING: _returning,
    Phase.RESTORING: _restoring,
    Phase.ROLLING_BACK: _rolling_back,
    Phase.UPDATING: _updating,
}


def _waiting_for(containers: tuple[ObservedContainer, ...]) -> str:
    sick = [f"{c.name}: {c.health_detail or c.status}" for c in containers if not c.is_ready]
    return "; ".join(sick) or "waiting for containers"


# ---------------------------------------------------------------- what it makes of the state


def advance(rollout: Rollout, decisions: tuple[Decision, ...], now: float) -> Rollout:
    """The rollout once all `decisions` are taken, clocks and expired pauses included."""
    services = dict(rollout.services)
    for decision in decisions:
        state = _ticked(rollout.of(decision.service), decision, now).after(decision, now)
        if state.phase is not Phase.ABSENT or decision.service in services or state.reason:
            services[decision.service] = state
    return dataclasses.replace(rollout, services=services)


def _ticked(state: ServiceRollout, decision: Decision, now: float) -> ServiceRollout:
    """The state with its clocks run on: observed time only where the decision observed."""
    if state.paused is not None and state.paused.until is not None and now >= state.paused.until:
        state = dataclasses.replace(state, paused=None)
    is_gap = now - state.seen > LONGEST_TICK_S
    sick_since = _since(state.sick_since, now, is_gap=is_gap) if decision.is_sick else None
    unknown_since = _since(state.unknown_since, now, is_gap=is_gap) if decision.is_unknown else None
    if sick_since != state.sick_since or unknown_since != state.unknown_since:
        state = dataclasses.replace(state, sick_since=sick_since, unknown_since=unknown_since)
    passed_s = min(max(0.0, now - state.seen), LONGEST_TICK_S) if decision.is_observing else 0.0
    if sick_since is not None or unknown_since is not None:
        state = dataclasses.replace(state, seen=now)
    if state.phase is not Phase.ANALYZING:
        return state
    return dataclasses.replace(
        state, seen=now, step_s=round(state.step_s + passed_s, 3), waited_s=round(state.waited_s + passed_s, 3)
    )


def _since(before: float | None, now: float, *, is_gap: bool) -> float:
    """Since when something lasts; what nobody watched does not count."""
    return now if before is None or is_gap else before
