"""What was counted about containers: the raw material of evidence, whoever counted it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Reading:
    """Lifetime counts of one container as one provider found them at one moment.

    `at` is when they were read, `began` since when they count up from zero (both seconds since the epoch): a
    reading with another `began` goes on from none that came before. `requests` and `errors` (answers with 5xx)
    are by path, or by whatever the provider tells requests apart by. `buckets` are cumulative counts of answers
    by upper bound in seconds, ascending, the last bound infinite. `uptime_s` is the process's age. `mode` and
    `chaos` (`none`, `slow`, `error`) are what the container says of itself, "" where it says nothing.
    """

    at: float
    began: float
    requests: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)
    buckets: tuple[tuple[float, int], ...] = ()
    uptime_s: float = 0.0
    mode: str = ""
    chaos: str = ""


@dataclass(frozen=True, slots=True)
class Unread:
    """Why there is no reading. `is_absent`: the container does not count at all, as opposed to badly or not now."""

    why: str
    is_absent: bool = False


@dataclass(frozen=True, slots=True)
class Counted:
    """What is known of one container: by the service's own word, and by the proxy's.

    Either may be missing; which one decides, and what it means when they disagree, is evidence's to say.
    """

    service: Reading | Unread
    proxy: Reading | Unread
