"""What an attack of the corpus is: its row in `docs/security.md`, its bytes, and what must become of it."""

from __future__ import annotations

import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LIMIT_S = 5.0
"""Processor time that an attack may cost us."""


@dataclasses.dataclass(frozen=True)
class Attack(ABC):
    """One attempt. `row` is the corpus's letter and number, `name` tells it from the others of its class."""

    row: str
    name: str

    @abstractmethod
    def attempt(self, folder: Path) -> None:
        """Fails where the attack comes to anything. `folder` is empty and the attack's own."""

    @property
    def kind(self) -> str:
        """The corpus's letter."""
        return self.row[0]


@contextmanager
def in_time() -> Iterator[None]:
    """Fails where the block takes more processor time than an attack may cost."""
    started = time.process_time()
    yield
    took = time.process_time() - started
    assert took < LIMIT_S, f"{took:.1f} s of processor time"


STEERS = frozenset({*range(0x20), *range(0x7F, 0xA0), 0xAD, 0x61C, 0x180E, 0xFEFF, *range(0xFFF9, 0xFFFC)}) | frozenset(
    {*range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070), *range(0xE0000, 0xE1000)}
)
"""Characters that move a cursor, end a line, turn text around or cannot be seen (C0, C1, bidi, zero width, tags)."""


def steering(text: str, keep: str = "") -> list[str]:
    """The characters in `text` that could steer a terminal or deceive a reader."""
    return sorted({f"U+{ord(c):04X}" for c in text if ord(c) in STEERS or 0xD800 <= ord(c) < 0xE000} - _codes(keep))


def _codes(keep: str) -> set[str]:
    return {f"U+{ord(c):04X}" for c in keep}
