"""When the writer stops to sign what it wrote, and what stands there if it cannot."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.core.desired import Json
from reconciler.core.errors import StateError
from reconciler.formats.history import Link
from reconciler.formats.history_checkpoint import checkpoint, statement

EVERY_RECORDS = 256
AFTER_S = 300.0
ROOM = 1024  # bytes kept free in a segment, so that its last record can be a checkpoint
MAX_REASON = 300


class Checkpoints:
    """`sign` gives a signature on one line, or a StateError that says why not; `monotonic` is in seconds."""

    def __init__(
        self,
        sign: Callable[[bytes], str],
        monotonic: Callable[[], float],
        every_records: int = EVERY_RECORDS,
        after_s: float = AFTER_S,
    ) -> None:
        self._sign, self._monotonic = sign, monotonic
        self._every_records, self._after_s = every_records, after_s
        self._records = 0
        self._at = monotonic()

    @property
    def has_news(self) -> bool:
        """Whether anything was written since the last checkpoint of this process."""
        return self._records > 0

    def wrote(self) -> None:
        """One more record is on the disk."""
        self._records += 1

    def due(self) -> str | None:
        """Why a checkpoint should be written now, None while it is too early."""
        if self._records >= self._every_records:
            return "records"
        return "time" if self._records and self._monotonic() - self._at >= self._after_s else None

    def record(self, last: Link, reason: str) -> dict[str, Json]:
        """The record to write behind `last`; unsigned where signing failed, never an error."""
        try:
            return checkpoint(reason, self._sign(statement(last)))
        except StateError as error:
            return checkpoint(reason, None, str(error)[:MAX_REASON])

    def done(self) -> None:
        """The checkpoint is on the disk."""
        self._records, self._at = 0, self._monotonic()
