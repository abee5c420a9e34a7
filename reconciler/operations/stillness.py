"""What an operator says about changing nothing, or about changing all the same: suspend, resume, break the glass."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.core.desired import Json
from reconciler.core.errors import Refused
from reconciler.core.record import Cycle, Trigger
from reconciler.core.rollout import BrokenGlass
from reconciler.core.windows import gate
from reconciler.core.words import Suspend, Unsuspend
from reconciler.formats import sync
from reconciler.loop import Loop
from reconciler.operations import TICK, Events, Misused, Request, end, is_said
from reconciler.operations.outcome import beside

GLASS_S = 900.0
"""How long a broken glass lets a rollout begin: images may have to be pulled first."""

ENDED_BY_RESUME = frozenset({"deploy", "promote", "rollback", "pause", "retry", "chaos", "teardown"})
"""What is refused while everything is suspended."""


class Stillness:
    """Answers `suspend`, and `resume`, which also ends what `resume_rollout` ends."""

    def __init__(self, open_loop: Callable[[bool], Loop], resume_rollout: Callable[[Request], Events]) -> None:
        self._open_loop = open_loop
        self._resume_rollout = resume_rollout

    def suspend(self, request: Request) -> Events:
        """From the next cycle on nothing is changed."""
        reason, for_s = request.args.get("reason"), request.args.get("for_s")
        if not isinstance(reason, str) or not is_said(reason):
            raise Misused("suspend needs a --reason: whoever finds it wants to know why nothing is changed")
        loop = self._open_loop(True)
        until = loop.ports.clock.now() + for_s if isinstance(for_s, int | float) else None
        heals = request.args.get("heal") is True
        word = Suspend(request.actor, reason, until, heals)
        for cycle in loop.follow(Trigger("operator", "suspend", request.actor, reason), word):
            if cycle is None:
                yield TICK
                continue
            how_long = f"for {for_s:g} s" if until is not None else "until `resume`"
            what = "what was approved is healed, nothing else is changed" if heals else "nothing is changed"
            code, more = beside(loop, cycle)
            yield end(code, f"Suspended {how_long}: {what}.{more}")
            return

    def resume(self, request: Request) -> Events:
        """End the suspension, or, where there is none, a rollout's pause."""
        loop = self._open_loop(True)
        if loop.memory.rollout.suspension(loop.ports.clock.now()) is None:
            yield from self._resume_rollout(request)
            return
        for cycle in loop.follow(Trigger("operator", "resume", request.actor), Unsuspend(request.actor)):
            if cycle is None:
                yield TICK
                continue
            code, more = beside(loop, cycle)
            yield end(code, f"The suspension is over.{more}")
            return


def refuse_while_suspended(loop: Loop) -> None:
    """Raises Refused while everything is suspended."""
    suspension = loop.memory.rollout.suspension(loop.ports.clock.now())
    if suspension is not None:
        raise Refused(f"{suspension}. `resume` first")


def broken_glass(request: Request, now: float) -> BrokenGlass | None:
    """The leave that `deploy --break-glass` gives. Raises Misused where it has no reason."""
    if request.args.get("break_glass") is not True:
        return None
    reason = request.args.get("reason")
    if not isinstance(reason, str) or not is_said(reason):
        raise Misused("--break-glass needs a --reason: it begins a rollout against the sync windows")
    return BrokenGlass(request.actor, reason, now + GLASS_S)


def suspension_value(cycle: Cycle | None, now: float) -> Json:
    """Who suspended everything, why, and until when (seconds since the epoch); null where nobody did."""
    given = cycle.rollout.suspension(now) if cycle else None
    if given is None:
        return None
    return {"actor": given.actor, "reason": given.reason, "until": given.until, "heals": given.heals}


def windows_value(cycle: Cycle | None, now: float) -> Json:
    """What the sync windows say of each service now; null where the manifest has none."""
    desired = cycle.desired if cycle else None
    if desired is None or not desired.windows:
        return None
    outlooks = sync.outlooks(desired.windows, now)
    said = {service.name: gate(outlooks, service.name, now) for service in desired.services}
    return {name: {"open": one.is_open, "reason": one.reason, "until": one.until} for name, one in said.items()}
