"""Signs that need no statistics: what alone shows that a container cannot serve."""

from __future__ import annotations

from datetime import datetime

from reconciler.core.observed import ObservedContainer, ObservedState, Status

CRASH_LOOP_RESTARTS = 3
"""Restarts by Docker after which a container counts as crash-looping."""

_CANNOT_START = frozenset({126, 127, 128})
"""Exit codes Docker gives a container that never ran: not executable, not found, could not be set up."""


def bad_sign(container: ObservedContainer) -> str:
    """What alone shows that a container cannot serve; "" where nothing does."""
    if container.oom_killed:
        return f"{container.name} was killed: out of memory"
    if container.restarts >= CRASH_LOOP_RESTARTS:
        return f"{container.name} crash-loops: {container.restarts} restarts, exit code {container.exit_code}"
    if container.status is Status.CREATED and container.exit_code in _CANNOT_START and container.error:
        return f"{container.name} cannot start: {container.error}"
    if container.status is Status.EXITED:
        return f"{container.name} exited with code {container.exit_code}"
    return ""


STOPPED_FROM_OUTSIDE = frozenset({0, 137, 143})
"""Exit codes of a process that ended well, or by SIGKILL or SIGTERM: somebody may be restarting the container."""

RESTART_TAKES_S = 3.0


def may_be_back(container: ObservedContainer, now: float) -> bool:
    """Whether a container that was stopped from outside, as by `docker restart`, may be running again in a moment."""
    ended = _moment(container.finished_at)
    is_stopped = container.status is Status.EXITED and container.exit_code in STOPPED_FROM_OUTSIDE
    return is_stopped and not container.oom_killed and ended is not None and now - ended < RESTART_TAKES_S


def went_with_the_host(container: ObservedContainer, observed: ObservedState) -> bool:
    """Whether an exit came with a restart of the engine or the host, which says nothing of the container.

    Then nothing of ours that runs has run since before that exit, and there is something else of ours.
    """
    ended = _moment(container.finished_at)
    if container.status is not Status.EXITED or ended is None:
        return False
    rest = [c for c in observed.engine.containers if c.ours and c.id != container.id]
    runs = [_moment(other.started_at) for other in rest if other.is_running]
    return bool(rest) and all(began is not None and began >= ended for began in runs)


def _moment(text: str) -> float | None:
    """Seconds since the epoch; None for what is no moment (Docker writes year 1 for "never")."""
    try:
        moment = datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None
    return moment if moment > 0 else None
