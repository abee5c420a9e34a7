"""Numbers and moments as people read them; what is no number is shown as the words it is."""

from __future__ import annotations

from datetime import datetime
from typing import TypeGuard

from reconciler.cli.terminal import ago, text_of

BEYOND = 2**63
"""What a forged or damaged line may hold, and nobody ever counted."""


def is_number(value: object) -> TypeGuard[int | float]:
    """A number that was measured, and no flag."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -BEYOND < value < BEYOND


def number(value: object, unit: str = "") -> str:
    """At most one decimal; words (a bound, why it is unknown) as they are; `-` for nothing."""
    if not is_number(value):
        return text_of(value) or "-"
    text = f"{value:.1f}".removesuffix(".0") if abs(value) < 100 else f"{value:.0f}"
    return f"{text}{unit}"


def count(value: object) -> str:
    """A whole number with its thousands set apart."""
    return f"{value:,}" if is_number(value) and isinstance(value, int) else number(value)


def share(value: object) -> str:
    """A ratio as a percentage with at most two decimals."""
    if not is_number(value):
        return text_of(value) or "-"
    return f"{value * 100:.2f}".rstrip("0").rstrip(".") + "%"


def odds(value: float) -> str:
    """An e-value of 1 or more as odds, `7.3:1`, as policy says them: cut off, and over 1,000:1 nobody counts."""
    if value > 1000:
        return "over 1,000:1"
    whole, _, rest = f"{value:.6f}".partition(".")
    return f"{int(whole):,}{f'.{rest[0]}' if value < 10 and rest[0] != '0' else ''}:1"


def needed(value: float) -> str:
    """The odds that are needed, `20:1`."""
    return f"{value:,.1f}".removesuffix(".0") + ":1"


def age(moment: object, now: float) -> str:
    """How long ago, from seconds since the epoch or RFC 3339; empty where it cannot be told."""
    at = seconds_of(moment)
    return "" if at is None else ago(now - at)


def seconds_of(moment: object) -> float | None:
    """Seconds since the epoch, from those or from RFC 3339."""
    if isinstance(moment, str):
        try:
            return datetime.fromisoformat(moment).timestamp()
        except (ValueError, OverflowError, OSError):
            return None
    if isinstance(moment, bool) or not isinstance(moment, (int, float)) or moment <= 0:
        return None
    return float(moment)
