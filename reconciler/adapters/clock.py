"""The only module that reads a clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> float:
    """Seconds since the epoch; may jump when somebody sets the clock."""
    return time.time()


def monotonic() -> float:
    """Seconds since some fixed moment; never goes back."""
    return time.monotonic()


class SystemClock:
    """The machine's clocks, as the Clock port."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return now()

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        return monotonic()

    def timestamp(self) -> str:
        """RFC 3339, UTC, milliseconds, `Z`: the same length always, so texts sort like moments."""
        moment = datetime.fromtimestamp(now(), UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
