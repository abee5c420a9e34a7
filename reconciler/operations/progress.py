"""How far a deployment is, read off the cycles as they finish: pure."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.core.desired import DesiredState, Mode
from reconciler.core.observed import EngineState
from reconciler.core.plan import CreateContainer, Outcome, StartContainer, TestProxyConfig
from reconciler.core.record import Cycle
from reconciler.core.rollout import WAY_BACK, Move, Phase, Rollout, ServiceRollout
from reconciler.operations import Exit
from reconciler.operations.what_next import Said, what_next

STEPS = (
    ("manifest_valid", "Manifest valid"),
    ("image_found", "Docker image found"),
    ("config_valid", "Nginx config valid"),
    ("starting", "Services starting..."),
    ("healthy", "Health check passed"),
    ("deployed", "Deployment successful"),
)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a deployment came to nothing; `is_passing`: it goes on by itself once that is over."""

    exit: Exit
    text: str
    is_passing: bool = False

    def tells(self, news: str) -> bool:
        """Whether `news` adds nothing: it says the same, or what else was seen beside a manifest that is wrong."""
        said = news.partition(": ")[2] or news
        return self.exit is Exit.BAD_MANIFEST or said in self.text or self.text in news


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `STEPS` are true; `unlucky` counts cycles in a row that the engine or OPA spoiled."""

    done: int = 0
    unlucky: int = 0
    gave_up: str = ""

    def after(self, cycle: Cycle) -> Progress:
        """Progress once `cycle` is finished; a step counts only when all before it do."""
        reached = (
            _is_in_force(cycle),
            _images_found(cycle),
            _config_valid(cycle),
            _is_starting(cycle),
            _is_healthy(cycle),
            _is_deployed(cycle),
        )
        done = next((i for i, is_true in enumerate(reached) if not is_true and i >= self.done), len(STEPS))
        gave_up = next((d.reason for d in cycle.decisions if d.move in _BACK), self.gave_up)
        return Progress(max(done, self.done), self.unlucky + 1 if cycle.errors else 0, gave_up)

    def failure(self, cycle: Cycle) -> Failure | None:
        """Why there is no point in waiting on, or None."""
        if cycle.problems:
            return Failure(Exit.BAD_MANIFEST, "\n".join(str(problem) for problem in cycle.problems))
        for verdict in cycle.verdicts:
            if verdict.domain == "admission" and not verdict.allow:
                code = Exit.DENIED if verdict.known else Exit.POLICY_FAILED
                return Failure(code, f"{'DENIED' if verdict.known else 'Policy engine failed'}: {verdict.reason}")
        phases = {state.phase for state in cycle.rollout.services.values()}
        if self.gave_up and _is_in_force(cycle) and phases.isdisjoint(WAY_BACK):
            kept = any(state.stable for state in cycle.rollout.services.values())
            goes_on = " What ran before goes on serving." if kept else " Nothing is left running of it."
            what = "Rolled back" if self.done > HEALTHY else "Health check failed"
            return Failure(Exit.UNHEALTHY, f"{what}: {self.gave_up}.{goes_on}")
        return (_held(cycle) if _is_in_force(cycle) else None) or self._spoiled(cycle)

    def _spoiled(self, cycle: Cycle) -> Failure | None:
        if cycle.errors and self.unlucky >= 3:
            return Failure(Exit.ERROR, cycle.errors[-1], is_passing=True)
        failed = _images_failed(cycle)
        return Failure(Exit.ERROR, failed) if failed else None


_BACK = (Move.GIVE_UP, Move.RETURN)
HEALTHY = 4
"""The place of "Health check passed" among the steps."""


def _held(cycle: Cycle) -> Failure | None:
    """Something is held back for a reason that waiting does not cure."""
    holds = (decision for decision in cycle.decisions if decision.move is Move.HOLD)
    found = (_held_back(cycle, cycle.rollout.of(decision.service), decision.reason) for decision in holds)
    return next((failure for failure in found if failure), None)


def _held_back(cycle: Cycle, state: ServiceRollout, reason: str) -> Failure | None:
    if state.phase not in (Phase.ABSENT, Phase.STABLE):
        wanted = cycle.desired.service(state.service) if cycle.desired else None
        following = what_next(state, wanted, Said())
        return Failure(Exit.ERROR, f"{state.service}: {reason}. Next: {following}.") if _needs_you(state) else None
    if reason.startswith("DENIED: "):
        return Failure(Exit.DENIED, reason)
    if reason.startswith("policy engine failed"):
        return Failure(Exit.POLICY_FAILED, f"P{reason[1:]}")
    return Failure(Exit.ERROR, reason) if reason and not reason.startswith("waiting") else None


def _needs_you(state: ServiceRollout) -> bool:
    """Only an operator, or another manifest, brings it further."""
    is_paused = state.paused is not None and state.phase in (Phase.ANALYZING, Phase.SUSPENDED)
    return (
        is_paused or state.phase is Phase.HALTED or (state.phase is Phase.SUSPENDED and state.is_suspended_by_verdict)
    )


def _is_in_force(cycle: Cycle) -> bool:
    """The manifest as it is now was read, found good and let in."""
    is_admitted = cycle.is_let_in and cycle.rollout.admitted == cycle.asked
    return bool(cycle.asked) and cycle.is_settled and is_admitted and not cycle.problems


def _images_found(cycle: Cycle) -> bool:
    if cycle.desired is None or cycle.observed is None:
        return False
    return all(service.image in cycle.observed.engine.images for service in cycle.desired.services)


def _images_failed(cycle: Cycle) -> str:
    if cycle.desired is None or cycle.observed is None:
        return ""
    engine: EngineState = cycle.observed.engine
    return "; ".join(
        f"image {why if why.startswith(name) else f'{name}: {why}'}"
        for name, why in sorted(engine.images_failed.items())
        if name not in engine.images
    )


def _config_valid(cycle: Cycle) -> bool:
    """nginx took the configuration, now or earlier."""
    if _stale(cycle):
        return False
    if any(
        isinstance(step.action, TestProxyConfig) and result.outcome is Outcome.OK
        for step, result in zip(cycle.plan.steps, cycle.results, strict=True)
    ):
        return True
    tests = any(isinstance(step.action, TestProxyConfig) for step in cycle.plan.steps)
    return not tests and cycle.observed is not None and cycle.observed.proxy.live_hash is not None


def _has_begun(rollout: Rollout) -> bool:
    return any(state.phase is not Phase.ABSENT for state in rollout.services.values())


def _is_starting(cycle: Cycle) -> bool:
    if _stale(cycle):
        return False
    starts = any(isinstance(step.action, CreateContainer | StartContainer) for step in cycle.plan.steps)
    return starts or _has_begun(cycle.rollout)


_UNPROVEN = frozenset({Phase.ABSENT, Phase.STARTING, Phase.UPDATING, Phase.ROLLING_BACK})


def _is_healthy(cycle: Cycle) -> bool:
    """What was started has shown that it can serve."""
    return _all_in(cycle, *(set(Phase) - _UNPROVEN)) and not _stale(cycle)


def _is_deployed(cycle: Cycle) -> bool:
    """The manifest's revision is stable, watched at most; a canary that the manifest keeps stands at its last step."""
    if _stale(cycle) or cycle.errors or cycle.desired is None:
        return False
    return all(_has_arrived(cycle, cycle.rollout.of(service.name), service.mode) for service in cycle.desired.services)


def _has_arrived(cycle: Cycle, state: ServiceRollout, mode: Mode) -> bool:
    if state.phase is Phase.WATCHING:
        return True
    if state.phase is Phase.ANALYZING and mode is Mode.CANARY and cycle.observed is not None:
        return cycle.observed.proxy.weights.get(state.service) == state.weight_pct > 0
    return state.phase is Phase.STABLE and not cycle.plan


def _all_in(cycle: Cycle, *phases: Phase) -> bool:
    desired: DesiredState | None = cycle.desired
    return desired is not None and all(cycle.rollout.of(s.name).phase in phases for s in desired.services)


def _stale(cycle: Cycle) -> bool:
    """A service runs, or is about to run, another revision than the manifest asks for."""
    for name, wanted in cycle.wanted.items():
        state = cycle.rollout.of(name)
        tried = [group.revision for group in (state.candidate, state.fresh, state.stable) if group]
        is_at_rest = state.phase is Phase.STABLE
        if wanted.revision not in tried or (is_at_rest and state.stable and state.stable.revision != wanted.revision):
            return True
        if is_at_rest and wanted.mode is Mode.CANARY and wanted != state.dismissed:
            return True
        if state.phase in WAY_BACK:
            return True
    return False
