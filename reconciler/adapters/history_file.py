"""`history.jsonl` on the disk: written one record at a time, each on the disk before the call returns.

One process writes, under the lock of the state directory; any number may read, and never wait. What is where:

    history_file        the writer: append, catch up, rotate, checkpoints
    history_live        the segment that is being written
    history_recovery    what a start finds and mends
    history_packing     finished segments compressed
    history_retention   the oldest ones removed, where there is a limit
    history_reader      all segments as one log, for everybody
    history_segments    names and lines
    history_disk        every call that changes the disk
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from reconciler.adapters import history_disk as disk
from reconciler.adapters.history_checkpoints import ROOM, Checkpoints
from reconciler.adapters.history_live import LiveSegment
from reconciler.adapters.history_packing import packing
from reconciler.adapters.history_reader import START, HistoryReader, Position
from reconciler.adapters.history_recovery import cut_torn_tail, end_of_finished, free_in_quarantine, gap
from reconciler.adapters.history_retention import retention
from reconciler.adapters.history_segments import LIVE
from reconciler.adapters.state_dir import translated
from reconciler.core.desired import Json
from reconciler.core.errors import StateError
from reconciler.formats.history import ORIGIN, Link, genesis, seal

__all__ = ["MAX_SEGMENT_BYTES", "MAX_WAITING", "START", "HistoryFile", "HistoryReader", "Position"]

MAX_SEGMENT_BYTES = 64 * 1024 * 1024
MAX_WAITING = 256


class HistoryFile(HistoryReader):
    """The writer. `append` is all a caller needs: it opens, recovers, rotates, signs and catches up as it has to."""

    def __init__(
        self,
        directory: Path,
        project: str,
        version: str,
        new_log_id: Callable[[], str],
        max_segment_bytes: int = MAX_SEGMENT_BYTES,
        *,
        checkpoints: Checkpoints | None = None,
        packs: bool = False,
        keep_bytes: int | None = None,
    ) -> None:
        """`keep_bytes` is what finished segments may take on disk; None, or no `checkpoints`, keeps all of them."""
        super().__init__(directory)
        self._project, self._version, self._new_log_id = project, version, new_log_id
        self._max_segment_bytes = max_segment_bytes - (ROOM if checkpoints else 0)
        self._checkpoints, self._packs, self._keep_bytes = checkpoints, packs, keep_bytes
        self._chores: Iterator[None] = iter(())
        self._file = LiveSegment(self.directory)
        self._now = ""
        self._found: deque[dict[str, Json]] = deque()
        self._waiting: deque[dict[str, Json]] = deque()
        self._missed = self._dropped = 0
        self._trouble = ""
        self._failed_sync = ""

    @property
    def link(self) -> Link | None:
        """The last record that is on the disk; None before the first `open`."""
        return self._file.link

    @property
    def waiting(self) -> int:
        """How many records could not be written yet."""
        return len(self._waiting)

    @property
    def is_open(self) -> bool:
        """False before `open`, and after a failed write until a later call succeeded."""
        return self._file.is_open

    def open(self, timestamp: str, expected: Link | None = None) -> Link:
        """Afterwards the log can be appended to, and records say what was found wrong with it.

        A torn tail is moved to `quarantine/`; a log that somebody changed is left as it is and goes on in a new
        segment. `expected` is a link kept elsewhere that the log must still hold.
        """
        self._file.close()
        with translated(self._live):
            try:
                self._file.complete_replacement()
                self._open_live(timestamp, _later(expected, self._file.link))
                if self._failed_sync:
                    self._leave_segment(timestamp)
                self._write_found(timestamp)
                self._chores = self._chores_of_now()
            except BaseException:
                self._file.close()
                raise
        return self._last()

    def append(self, record: Mapping[str, Json], timestamp: str | None = None) -> Link:
        """`record` at the end of the log, on the disk when this returns; `timestamp` is put in if it has none.

        A StateError says why it is not: then it waits in memory (the last `MAX_WAITING` do) and is written, marked
        `late`, by the first later call that can.
        """
        dated: dict[str, Json] = {"timestamp": timestamp or record["timestamp"], **record}
        now = self._now = str(dated["timestamp"])
        try:
            if not self.is_open:
                self.open(now)
            with translated(self._live):
                self._look_for_strangers(now)
                self._catch_up(now)
                link = self._write(dated, now)
        except StateError as error:
            self._file.close_unless_last()
            self._keep(dated, str(error))
            raise StateError(f"{error} ({len(self._waiting)} records wait in memory)") from error
        except BaseException:
            self._file.close()  # interrupted anywhere between write and sync: the next call looks what is there
            raise
        self._look_after(now)
        return link

    def close(self) -> None:
        """Afterwards what waited is written and all of it is signed, where that can be, and nothing is held."""
        try:
            with suppress(StateError), translated(self._live):
                self._finish()
        finally:
            self._chores = iter(())
            self._file.close()

    # --- writing -----------------------------------------------------------------------------------------------

    def _write(self, record: Mapping[str, Json], now: str) -> Link:
        """One record, in the next segment if it is too much for this one."""
        line, _ = seal(record, self._last())
        if self._file.size + len(line) > self._max_segment_bytes:
            if self._checkpoints and self._checkpoints.has_news:
                self._write_checkpoint("segment", now)
            self._begin_segment({"kind": "segment_start", "reason": "size"}, self._last(), now)
            self._chores = self._chores_of_now()
        return self._put(record, now)

    def _put(self, record: Mapping[str, Json], now: str, *, again: bool = True) -> Link:
        """One write, one sync. A write that failed is undone; after a failed sync that file is never written again."""
        line, link = seal(record, self._last())
        try:
            disk.write_whole(self._file.fd, line)
        except OSError:
            self._file.undo()
            raise
        try:
            disk.sync_file(self._file.fd)
        except OSError as error:
            self._file.undo()
            self._failed_sync = f"sync failed: {error.strerror}"
            if not again:
                raise
            self._leave_segment(now)
            return self._put(record, now, again=False)
        self._note(self._file.size + len(line), link)
        return link

    def _note(self, size: int, link: Link) -> None:
        self._file.note(size, link)
        if self._checkpoints:
            self._checkpoints.wrote()

    def _leave_segment(self, now: str) -> None:
        self._begin_segment({"kind": "segment_start", "reason": self._failed_sync}, self._last(), now)
        self._failed_sync = ""

    def _last(self) -> Link:
        assert self._file.link is not None, "open() gives the first link"
        return self._file.link

    def _keep(self, record: dict[str, Json], trouble: str) -> None:
        self._trouble = trouble
        self._missed += 1
        self._waiting.append(record)
        while len(self._waiting) > MAX_WAITING:
            self._waiting.popleft()
            self._dropped += 1

    def _catch_up(self, now: str) -> None:
        """Write what had to wait, oldest first; once that is done, and only then, one record says so."""
        self._write_found(now)
        while self._waiting:
            self._write({**self._waiting[0], "late": True}, now)
            self._waiting.popleft()
        if self._missed:
            counts: dict[str, Json] = {"written_late": self._missed - self._dropped, "dropped": self._dropped}
            self._write({"timestamp": now, "kind": "storage_recovered", **counts, "reason": self._trouble}, now)
            self._missed = self._dropped = 0

    def _write_found(self, now: str) -> None:
        while self._found:
            self._write(self._found[0], now)
            self._found.popleft()

    # --- what follows a record that is safe: nothing here may fail it any more -----------------------------------

    def _look_after(self, now: str) -> None:
        try:
            with translated(self._live):
                if self._checkpoints and (reason := self._checkpoints.due()):
                    self._write_checkpoint(reason, now)
                next(self._chores, None)
        except StateError:
            self._file.close_unless_last()
        except BaseException:
            self._file.close()
            raise

    def _finish(self) -> None:
        """The last try for what waited, and a signature over all that no checkpoint covers yet."""
        if self._waiting and not self.is_open:
            self.open(self._now)
        if not self.is_open:
            return
        self._look_for_strangers(self._now)
        self._catch_up(self._now)
        if self._checkpoints and self._checkpoints.has_news:
            self._write_checkpoint("closed", self._now)

    def _write_checkpoint(self, reason: str, now: str) -> bool:
        """A record in which our key vouches for all before it, or that says why it does not; whether it does."""
        assert self._checkpoints is not None
        record = self._checkpoints.record(self._last(), reason)
        self._put({"timestamp": now, **record}, now)
        self._checkpoints.done()
        return "signature" in record

    def _chores_of_now(self) -> Iterator[None]:
        """Compress, then remove what is too much: begun anew with every segment, a step after each record."""
        if self._packs:
            yield from packing(self.directory)
        if self._keep_bytes is not None and self._checkpoints is not None:
            yield from retention(
                self.directory,
                self._keep_bytes,
                lambda record: self._write({"timestamp": self._now, **record}, self._now),
                lambda: self._write_checkpoint("retention", self._now),
            )

    # --- strangers and segments ----------------------------------------------------------------------------------

    def _look_for_strangers(self, now: str) -> None:
        """Nobody but us writes here: whatever else happened to the file is recorded, in a new segment."""
        if what := self._file.stranger():
            reason = f"{LIVE} was {what} by another"
            self._begin_segment({"kind": "history_tampered", "reason": reason}, self._last(), now, restore=True)
        elif changed := self._file.changed():
            self._begin_segment({"kind": "history_tampered", "reason": changed}, self._last(), now)

    def _begin_segment(self, record: dict[str, Json], link: Link, now: str, *, restore: bool = False) -> None:
        """Afterwards `history.jsonl` is a new file that goes on from `link` with `record`; as `LiveSegment.replace`."""
        there, finished = self._file.has_name(), self._file.next_finished()
        stranger = free_in_quarantine(self.directory, f"replaced-{link.seq}") if there and restore else None
        origin = genesis(self._new_log_id(), self._project, self._version) if link == ORIGIN else {}
        names: dict[str, Json] = {"previous": finished.name} if there or restore else {}
        if stranger is not None:
            names["replaced_by"] = f"quarantine/{stranger.name}"
        line, sealed = seal({"timestamp": now, **origin, **record, **names}, link)
        self._file.replace(line, sealed, finished, stranger, restore=restore)
        if self._checkpoints:
            self._checkpoints.wrote()

    # --- opening -----------------------------------------------------------------------------------------------

    def _open_live(self, now: str, expected: Link | None) -> None:
        before = end_of_finished(self.directory)
        try:
            self._file.open()
        except FileNotFoundError:
            self._begin_without(now, _later(before, expected), "is missing")
            return
        if torn := cut_torn_tail(self._file, now):
            self._found.append(torn)
        size = os.fstat(self._file.fd).st_size
        if size == 0:
            self._begin_without(now, _later(before, expected), "is empty")
            return
        report = self._file.verify(expected)
        self._file.note(size, _later(report.last, expected) or before or ORIGIN)
        reason = str(report.first_break) if report.first_break else gap(self._file, before)
        if reason is not None:
            damage: dict[str, Json] = {"kind": "history_corrupt", "reason": reason, "breaks": report.breaks}
            self._begin_segment(damage, self._last(), now)

    def _begin_without(self, now: str, before: Link | None, what: str) -> None:
        """No line to go on from in `history.jsonl`: a new log, unless there was one."""
        if before is None:
            self._begin_segment({}, ORIGIN, now)
        else:
            reason = f"{LIVE} {what}, but record {before.seq} had been written"
            self._begin_segment({"kind": "history_corrupt", "reason": reason}, before, now)


def _later(one: Link | None, other: Link | None) -> Link | None:
    return max((link for link in (one, other) if link), key=lambda link: link.seq, default=None)
