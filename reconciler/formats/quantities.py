"""Durations, sizes and counts as people write them, in one unit each."""

from __future__ import annotations

import re
from decimal import Decimal

from reconciler.formats.findings import Findings
from reconciler.formats.yaml_strict import Node

SHORTEST_S = 0.001
LONGEST_S = 30 * 86_400.0
_SECONDS = {"h": Decimal(3600), "m": Decimal(60), "s": Decimal(1), "ms": Decimal("1e-3"), "us": Decimal("1e-6")}
_BYTES = {"": 1, "b": 1, "k": 2**10, "kb": 2**10, "m": 2**20, "mb": 2**20, "g": 2**30, "gb": 2**30}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(h|ms|us|m|s)")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([bBkKmMgG]?[bB]?)")


def seconds(value: object) -> float | None:
    """A number of seconds, or a Compose duration (`1m30s`, `500ms`), in seconds; None if it is neither."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str) or not re.fullmatch(rf"(?:{_PART.pattern})+", value):
        return None
    return float(sum(Decimal(number) * _SECONDS[unit] for number, unit in _PART.findall(value)))


def duration(node: Node, findings: Findings, *, least: float = SHORTEST_S) -> float:
    """Seconds; what is too short or too long becomes a problem."""
    value = seconds(node.value)
    if value is None or not least <= value <= LONGEST_S:
        low = "0s" if least == 0 else "1ms"
        findings.problem(node, f"{node.path} is {node.text}. Use a time from {low} to 720h.")
        return least
    return value


def size(value: object) -> int | None:
    """A number of bytes, or a size (`512m`, `1.5g`; k, m and g are powers of 1024); None if it is neither."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None or found[2].lower() not in _BYTES:
        return None
    return int(Decimal(found[1]) * _BYTES[found[2].lower()])


def times(text: str, factor: Decimal) -> float | None:
    """The number written as `text`, times `factor`, without a trace of binary rounding; None if it is none."""
    try:
        return float(Decimal(text) * factor)
    except (ArithmeticError, ValueError):
        return None
