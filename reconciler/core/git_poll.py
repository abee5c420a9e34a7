"""When a repository is looked at again."""

from __future__ import annotations

CAP_S = 300.0
JITTER = 0.1


def next_look_s(poll_s: float, failures: int, chance: float) -> float:
    """Seconds until the next look: `poll_s`, twice that for every failure in a row, at most five minutes; and jitter.

    `chance` is a random number from 0.0 to 1.0: many hosts must not ask one server at the same moments. It moves a
    look by a tenth either way, and after a failure to anywhere in the upper half of the time to wait.
    """
    if failures <= 0:
        return poll_s * (1.0 - JITTER + 2.0 * JITTER * chance)
    longest = max(poll_s, min(CAP_S, poll_s * 2.0 ** min(failures, 16)))
    return longest * (0.5 + 0.5 * chance)
