"""What came of an operator's word, for the one who said it."""

from __future__ import annotations

from reconciler.core.record import Cycle
from reconciler.core.rollout import WAY_BACK, Group, Phase, ServiceRollout
from reconciler.loop import Loop
from reconciler.operations import Exit

CHANGE_OR_RETRY = "Change the service in the manifest and `deploy` it; `retry` tries the same one again"


def beside(loop: Loop, cycle: Cycle) -> tuple[Exit, str]:
    """What is to be told beside the answer to a word that `cycle` heard; OK and "" where nothing is.

    A word is in force from the cycle that hears it on, whatever else goes wrong there; an error is only that it could
    not be put on disk.
    """
    if loop.memory.is_unsaved:
        return Exit.ERROR, f" NOT SAVED: {_unsaved(loop, cycle)}"
    if cycle.errors:
        return Exit.OK, f" That is saved, and what follows from it is done once this is over: {cycle.errors[-1]}"
    return Exit.OK, ""


def still_up(loop: Loop, cycle: Cycle) -> str:
    """Why a teardown that `cycle` could not go on with is not done, and what becomes of it."""
    if loop.memory.is_unsaved:
        return f"Not torn down, and NOT SAVED: {_unsaved(loop, cycle)}"
    why = cycle.errors[-1].rstrip(".")
    then = "as soon as that is over" if loop.turns_itself else "once that is over, with the next command or a daemon"
    return f"Not torn down yet: {why}. The word is saved: the stack is taken down {then}, unless `deploy` comes first."


def goes_on(loop: Loop, cycle: Cycle) -> str:
    """What becomes of what was asked for where something keeps `cycle` from doing it."""
    if loop.memory.is_unsaved:
        return f"NOT SAVED: {_unsaved(loop, cycle)}"
    if loop.turns_itself:
        return "Nothing is lost: the daemon goes on as soon as that is over; `status` shows how."
    return "Nothing is lost: it goes on once that is over, with the next command or a daemon."


def _unsaved(loop: Loop, cycle: Cycle) -> str:
    """Why a word is not on disk, and what that means."""
    why = next(iter(cycle.errors), "the disk did not take it").rstrip(".")
    if loop.turns_itself:
        return f"{why}. It holds until the daemon ends; each cycle tries again to save it."
    return f"{why}. It is forgotten now: say it again once that is over."


def older(state: ServiceRollout) -> Group | None:
    """What a roll back leads to; None where nothing older is left to run."""
    is_tried = state.candidate is not None or state.phase in WAY_BACK
    return state.kept or (state.stable if is_tried else None)


def left(state: ServiceRollout) -> Group | None:
    """What a roll back gives up."""
    return state.candidate or state.stable


def rolled_back(before: ServiceRollout, now: ServiceRollout) -> tuple[Exit, str]:
    """How a roll back of `before` ended, `now` that it is over."""
    aim = older(before)
    if now.stable is None:
        gone = (
            f"The first deployment of {now.service} was taken back: nothing of it runs, and there is no older revision"
        )
        return Exit.OK, f"{gone}. {CHANGE_OR_RETRY}."
    if aim is not None and now.stable.revision == aim.revision:
        return Exit.OK, f"Rolled back: {now.service} runs {now.stable.revision[:12]}"
    late = f"Too late: {now.service} had become stable with {now.stable.revision[:12]}, and nothing older is kept"
    return Exit.ERROR, f"{late}. To go back, change the service in the manifest."


def never_ran(state: ServiceRollout) -> bool:
    """All that was ever tried of it was given up."""
    return state.phase is Phase.ABSENT and bool(state.quarantined) and not state.last_stable
