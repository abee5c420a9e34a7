"""`history.jsonl` on the disk: written one record at a time, each on the disk before the call returns.

`history.jsonl` is always the segment being written; finished ones are `history-000001.jsonl` and so on, read-only. A
new segment is written as `history.jsonl.next` first and renamed into place, so a crash leaves either the old state or
one that the next start completes: a missing `history.jsonl` without a `.next` was removed by somebody.

One process writes, under the lock of the state directory; any number may read, and never wait.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO

from reconciler.adapters.state_dir import open_own, open_regular, sync_directory, translated
from reconciler.core.desired import Json
from reconciler.core.errors import StateError
from reconciler.formats.history import (
    MAX_LINE_BYTES,
    ORIGIN,
    Link,
    Report,
    Tail,
    genesis,
    parse,
    recover_tail,
    seal,
    sequence,
    verify,
)

if sys.platform == "darwin":
    import fcntl

MAX_SEGMENT_BYTES = 64 * 1024 * 1024
MAX_WAITING = 256
MODE, MODE_FINISHED = 0o640, 0o440

_LIVE, _NEXT = "history.jsonl", "history.jsonl.next"
_FINISHED = re.compile(r"history-([0-9]{6,})\.jsonl\Z")
_BLOCK = 256 * 1024

Segment = Path | int  # a finished one by name, the live one by descriptor
Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Position:
    """How far a reader has come: the file (by inode), the byte after the last line read, and its record."""

    inode: int = 0
    offset: int = 0
    seq: int = 0


START = Position()


class HistoryReader:
    """All segments in a directory as one log; needs no lock and may run beside the writer."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self._live = self.directory / _LIVE

    def read(self, from_seq: int | None = None) -> Iterator[dict[str, Json]]:
        """Every record from `from_seq` on, oldest first, as lazily as they are asked for; odd lines come as odd."""
        for record, _ in self.follow(Position(seq=(from_seq or 1) - 1)):
            yield record

    def follow(self, position: Position = START) -> Iterator[tuple[dict[str, Json], Position]]:
        """The records behind `position`, each with the position to go on from later; ends where the log ends now.

        A line that is still being written is not there yet. Rotation in between loses and repeats nothing.
        """
        with self._segments() as segments:
            index, offset = _find(segments, position)
            is_behind = offset > 0 or position.seq == 0
            for segment in segments[index:]:
                with _reading(segment) as file:
                    file.seek(offset)
                    yield from _records(file, position.seq, is_behind)
                offset, is_behind = 0, True

    def tail(self, count: int) -> list[dict[str, Json]]:
        """The last `count` records, oldest first."""
        lines: list[bytes] = []
        with self._segments() as segments:
            for segment in reversed(segments):
                if len(lines) < count:
                    with _reading(segment) as file:
                        lines = [*_last_lines(file, count - len(lines)), *lines]
        return [parse(line) for line in lines]

    def verify(self, prev: Link | None = ORIGIN, *, full: bool = False, expected: Link | None = None) -> Report:
        """Walk the whole chain over all segments; see `formats.history.verify`.

        Where old segments were archived, `prev` is the last link of those; None believes the first line there is.
        """
        with self._segments() as segments:
            return verify(_all_lines(segments), prev, full=full, expected=expected)

    def damage(self) -> list[dict[str, Json]]:
        """The records that say the log was changed or lost by another: each is the first of a segment."""
        with self._segments() as segments:
            firsts = [parse(line) for segment in segments if (line := _first_line(segment))]
        return [record for record in firsts if record.get("kind") in ("history_tampered", "history_corrupt")]

    def finished(self) -> list[Path]:
        """The finished segments, oldest first."""
        found = [(int(match[1]), name) for name in os.listdir(self.directory) if (match := _FINISHED.match(name))]
        return [self.directory / name for _, name in sorted(found)]

    @contextmanager
    def _segments(self) -> Iterator[list[Segment]]:
        """Every segment, oldest first. The live one is opened at once: if it is rotated then, nothing is missed."""
        with translated(self._live), ExitStack() as stack:
            live: int | None = None
            with suppress(FileNotFoundError):
                live = open_regular(self._live, os.O_RDONLY)
                stack.callback(os.close, live)
            finished = self.finished()
            if live is None or any(os.path.samestat(os.fstat(live), os.stat(path)) for path in finished):
                yield [*finished]
            else:
                yield [*finished, live]


class HistoryFile(HistoryReader):
    """The writer. `append` is all a caller needs: it opens, recovers, rotates and catches up as it has to."""

    def __init__(
        self,
        directory: Path,
        project: str,
        version: str,
        new_log_id: Callable[[], str],
        max_segment_bytes: int = MAX_SEGMENT_BYTES,
    ) -> None:
        super().__init__(directory)
        self._project, self._version, self._new_log_id = project, version, new_log_id
        self._max_segment_bytes = max_segment_bytes
        self._fd = -1
        self._size = 0
        self._stamp: Stamp = (0, 0, 0)
        self._link: Link | None = None
        self._found: deque[dict[str, Json]] = deque()
        self._waiting: deque[dict[str, Json]] = deque()
        self._missed = self._dropped = 0
        self._trouble = ""
        self._failed_sync = ""

    @property
    def link(self) -> Link | None:
        """The last record that is on the disk; None before the first `open`."""
        return self._link

    @property
    def waiting(self) -> int:
        """How many records could not be written yet."""
        return len(self._waiting)

    @property
    def is_open(self) -> bool:
        """False before `open`, and after a failed write until a later call succeeded."""
        return self._fd >= 0

    def open(self, timestamp: str, expected: Link | None = None) -> Link:
        """Afterwards the log can be appended to, and records say what was found wrong with it.

        A torn tail is moved to `quarantine/`; a log that somebody changed is left as it is and goes on in a new
        segment. `expected` is a link kept elsewhere that the log must still hold.
        """
        self.close()
        with translated(self._live):
            try:
                self._complete_rotation()
                self._open_live(timestamp, _later(expected, self._link))
                if self._failed_sync:
                    self._leave_segment(timestamp)
                self._write_found(timestamp)
            except BaseException:
                self.close()
                raise
        return self._last()

    def append(self, record: Mapping[str, Json], timestamp: str | None = None) -> Link:
        """`record` at the end of the log, on the disk when this returns; `timestamp` is put in if it has none.

        A StateError says why it is not: then it waits in memory (the last `MAX_WAITING` do) and is written, marked
        `late`, by the first later call that can.
        """
        dated: dict[str, Json] = {"timestamp": timestamp or record["timestamp"], **record}
        now = str(dated["timestamp"])
        try:
            if self._fd < 0:
                self.open(now)
            with translated(self._live):
                self._look_for_strangers(now)
                self._catch_up(now)
                return self._write(dated, now)
        except StateError as error:
            self._close_unless_last()
            self._keep(dated, str(error))
            raise StateError(f"{error} ({len(self._waiting)} records wait in memory)") from error
        except BaseException:
            self.close()  # interrupted anywhere between write and sync: the next call looks what is there
            raise

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _close_unless_last(self) -> None:
        """A file without a name would be gone with its descriptor: it is kept until there is room to restore it."""
        if self._fd >= 0 and os.fstat(self._fd).st_nlink > 0:
            self.close()

    # --- writing -----------------------------------------------------------------------------------------------

    def _write(self, record: Mapping[str, Json], now: str, *, again: bool = True) -> Link:
        """One write, one sync. A write that failed is undone; after a failed sync that file is never written again."""
        line, link = seal(record, self._last())
        if self._size + len(line) > self._max_segment_bytes:
            self._begin_segment({"kind": "segment_start", "reason": "size"}, self._last(), now)
            line, link = seal(record, self._last())
        try:
            _write_whole(self._fd, line)
        except OSError:
            self._undo()
            raise
        try:
            sync_file(self._fd)
        except OSError as error:
            self._undo()
            self._failed_sync = f"sync failed: {error.strerror}"
            if not again:
                raise
            self._leave_segment(now)
            return self._write(record, now, again=False)
        self._note(self._size + len(line), link)
        return link

    def _leave_segment(self, now: str) -> None:
        self._begin_segment({"kind": "segment_start", "reason": self._failed_sync}, self._last(), now)
        self._failed_sync = ""

    def _last(self) -> Link:
        assert self._link is not None, "open() gives the first link"
        return self._link

    def _undo(self) -> None:
        """Cut off what a failed write left; where that fails too, the next `open` finds a torn tail."""
        with suppress(OSError):
            os.ftruncate(self._fd, self._size)

    def _note(self, size: int, link: Link) -> None:
        self._size, self._link = size, link
        self._stamp = _stamp(os.fstat(self._fd))

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

    # --- strangers ---------------------------------------------------------------------------------------------

    def _look_for_strangers(self, now: str) -> None:
        """Nobody but us writes here: whatever else happened to the file is recorded, in a new segment."""
        ours, there = os.fstat(self._fd), _lstat(self._live)
        if there is None or not os.path.samestat(ours, there):
            self._restore(now, "removed" if there is None else "replaced")
        elif ours.st_size != self._size:
            changed = "cut off" if ours.st_size < self._size else "written to"
            self._tampered(now, f"{_LIVE} was {changed} by another: {ours.st_size} bytes, not {self._size}")
        elif _stamp(ours) != self._stamp:
            self._look_closer(now)

    def _look_closer(self, now: str) -> None:
        """Size and inode are ours, the times are not: a `chmod` is harmless, a changed byte is not."""
        report = self._verify_live(None)
        if report.is_whole and report.last == self._link:
            self._stamp = _stamp(os.fstat(self._fd))
        else:
            self._tampered(
                now, f"{_LIVE} was changed by another: {report.first_break or 'it ends with another record'}"
            )

    def _tampered(self, now: str, reason: str) -> None:
        self._begin_segment({"kind": "history_tampered", "reason": reason}, self._last(), now)

    def _restore(self, now: str, what: str) -> None:
        """The name is gone or leads elsewhere, but we still hold the file: keep ours as a finished segment."""
        reason: dict[str, Json] = {"kind": "history_tampered", "reason": f"{_LIVE} was {what} by another"}
        self._begin_segment(reason, self._last(), now, restore=True)

    # --- segments ----------------------------------------------------------------------------------------------

    def _begin_segment(self, record: dict[str, Json], link: Link, now: str, *, restore: bool = False) -> None:
        """Afterwards `history.jsonl` is a new file that goes on from `link` with `record`.

        With `restore` the old segment is the file we hold, not the one of that name.
        """
        there, finished = _lstat(self._live) is not None, self._next_finished()
        stranger = self._free_in_quarantine(f"replaced-{link.seq}") if there and restore else None
        origin = genesis(self._new_log_id(), self._project, self._version) if link == ORIGIN else {}
        names: dict[str, Json] = {"previous": finished.name} if there or restore else {}
        if stranger is not None:
            names["replaced_by"] = f"quarantine/{stranger.name}"
        line, sealed = seal({"timestamp": now, **origin, **record, **names}, link)
        fd = self._write_next(line)
        try:
            if stranger is not None:
                os.rename(self._live, stranger)
            if restore:
                self._copy_held_to(finished)
            elif there:
                self._finish(finished)
            os.rename(self.directory / _NEXT, self._live)
            sync_directory(self.directory)
        except BaseException:
            os.close(fd)
            raise
        self.close()
        self._fd = fd
        self._note(len(line), sealed)

    def _finish(self, finished: Path) -> None:
        os.rename(self._live, finished)
        with suppress(OSError):
            os.chmod(finished, MODE_FINISHED)

    def _write_next(self, line: bytes) -> int:
        """`history.jsonl.next` with its first line, on the disk; what an earlier attempt left is removed."""
        path = self.directory / _NEXT
        with suppress(FileNotFoundError):
            os.unlink(path)
        fd = open_own(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, MODE)
        try:
            os.fchmod(fd, MODE)
            _write_whole(fd, line)
            sync_file(fd)
            sync_directory(self.directory)
        except BaseException:
            os.close(fd)
            with suppress(OSError):
                os.unlink(path)
            raise
        return fd

    def _complete_rotation(self) -> None:
        """What a crash left between the steps of `_begin_segment`: the new segment counts if the old one was moved."""
        following = self.directory / _NEXT
        if _lstat(following) is None:
            return
        if _lstat(self._live) is None:
            os.rename(following, self._live)
        else:
            os.unlink(following)
        sync_directory(self.directory)

    def _next_finished(self) -> Path:
        last = self.finished()
        number = int(last[-1].stem.removeprefix("history-")) + 1 if last else 1
        return self.directory / f"history-{number:06d}.jsonl"

    def _copy_held_to(self, finished: Path) -> None:
        """The bytes of the file we hold open, under a name again."""
        copy = open_own(finished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
        try:
            offset = 0
            while block := os.pread(self._fd, min(_BLOCK, self._size - offset), offset):
                _write_whole(copy, block)
                offset += len(block)
            os.fchmod(copy, MODE_FINISHED)
            sync_file(copy)
        except BaseException:
            with suppress(OSError):
                os.unlink(finished)
            raise
        finally:
            os.close(copy)

    def _free_in_quarantine(self, stem: str) -> Path:
        folder = self.directory / "quarantine"
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        taken = set(os.listdir(folder))
        number = next(number for number in range(1, len(taken) + 2) if f"{stem}-{number}" not in taken)
        return folder / f"{stem}-{number}"

    # --- opening -----------------------------------------------------------------------------------------------

    def _open_live(self, now: str, expected: Link | None) -> None:
        before = self._end_of_finished()
        try:
            self._fd = open_own(self._live, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            self._begin_without(now, _later(before, expected), "is missing")
            return
        if stat.S_IMODE(os.fstat(self._fd).st_mode) != MODE:
            os.fchmod(self._fd, MODE)
        self._cut_torn_tail(now)
        size = os.fstat(self._fd).st_size
        if size == 0:
            self._begin_without(now, _later(before, expected), "is empty")
            return
        report = self._verify_live(expected)
        self._note(size, _later(report.last, expected) or before or ORIGIN)
        reason = str(report.first_break) if report.first_break else self._gap(before)
        if reason is not None:
            damage: dict[str, Json] = {"kind": "history_corrupt", "reason": reason, "breaks": report.breaks}
            self._begin_segment(damage, self._last(), now)

    def _begin_without(self, now: str, before: Link | None, what: str) -> None:
        """No line to go on from in `history.jsonl`: a new log, unless there was one."""
        if before is None:
            self._begin_segment({}, ORIGIN, now)
        else:
            reason = f"{_LIVE} {what}, but record {before.seq} had been written"
            self._begin_segment({"kind": "history_corrupt", "reason": reason}, before, now)

    def _gap(self, before: Link | None) -> str | None:
        """Why the live segment does not go on from the finished one before it, unless its first record says so."""
        with _reading(self._fd) as file:
            line = file.readline(MAX_LINE_BYTES)
        first = parse(line)
        is_plain = first.get("kind") == "segment_start" and first.get("reason") == "size"
        if before is None or not is_plain or first.get("prev") == before.hash:
            return None
        return f"{_LIVE} starts with record {first.get('seq')}, but the segment before it ends with record {before.seq}"

    def _end_of_finished(self) -> Link | None:
        """The last link in the finished segments, as far back as one can be read."""
        for path in reversed(self.finished()):
            with _reading(path) as file:
                end = recover_tail(_end(file.fileno()))
            if end.last is not None:
                return end.last
        return None

    def _verify_live(self, expected: Link | None) -> Report:
        with _reading(self._fd) as file:
            return verify(_lines(file), None, expected=expected)

    def _cut_torn_tail(self, now: str) -> None:
        """Move what a crash left behind the last whole line to `quarantine/`, and note it for the log.

        More than one line's worth is not what a crash leaves: it stays, and is found as a break.
        """
        size = os.fstat(self._fd).st_size
        tail = recover_tail(_end(self._fd))
        if not 0 < len(tail.torn) <= MAX_LINE_BYTES:
            return
        kept = self._save_torn(tail)
        os.ftruncate(self._fd, size - len(tail.torn))
        sync_file(self._fd)
        digest = sha256(tail.torn).hexdigest()
        what: dict[str, Json] = {"bytes": len(tail.torn), "sha256": digest, "kept_as": f"quarantine/{kept.name}"}
        self._found.append({"timestamp": now, "kind": "history_recovered", **what})

    def _save_torn(self, tail: Tail) -> Path:
        path = self._free_in_quarantine(f"torn-{tail.last.seq + 1 if tail.last else 0}")
        fd = open_own(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _write_whole(fd, tail.torn)
            sync_file(fd)
        finally:
            os.close(fd)
        sync_directory(path.parent)
        return path


# --- bytes -----------------------------------------------------------------------------------------------------------


def sync_file(fd: int) -> None:
    """Afterwards the file's bytes are on the disk; macOS means it only when asked with F_FULLFSYNC."""
    if sys.platform == "darwin":
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(fd)


def _write_whole(fd: int, content: bytes) -> None:
    """One write; a short one is a full disk that has not said so yet."""
    written = os.write(fd, content)
    if written != len(content):
        raise OSError(errno.ENOSPC, f"Only {written} of {len(content)} bytes could be written")


def _lines(file: IO[bytes]) -> Iterable[bytes]:
    """Lines with their newlines; one beyond the limit comes in pieces, so that no file fills the memory."""
    return iter(lambda: file.readline(MAX_LINE_BYTES), b"")


def _all_lines(segments: Iterable[Segment]) -> Iterator[bytes]:
    for segment in segments:
        with _reading(segment) as file:
            yield from _lines(file)


def _records(file: IO[bytes], seq: int, is_behind: bool) -> Iterator[tuple[dict[str, Json], Position]]:
    """The whole lines from where `file` stands, each with its position; unless it `is_behind` it, those after `seq`."""
    inode, offset = os.fstat(file.fileno()).st_ino, file.tell()
    for line in _lines(file):
        if not line.endswith(b"\n"):
            return
        offset += len(line)
        number = sequence(line)
        is_behind = is_behind or (number is not None and number > seq)
        if is_behind:
            seq = number or seq
            yield parse(line), Position(inode, offset, seq)


def _find(segments: list[Segment], position: Position) -> tuple[int, int]:
    """The index of the segment to go on in, and the byte; byte 0 where only the record's number tells."""
    for index, segment in enumerate(segments):
        found = os.fstat(segment) if isinstance(segment, int) else os.stat(segment)
        if found.st_ino == position.inode and found.st_size >= position.offset:
            return index, position.offset
    starts = [sequence(_first_line(segment)) for segment in segments]
    before = [index for index, start in enumerate(starts) if start is not None and start <= position.seq]
    return max(before, default=0), 0


def _end(fd: int) -> bytes:
    """The last bytes of the file from a line's start: enough for a torn line and the one before it."""
    size = os.fstat(fd).st_size
    start = max(size - _BLOCK, 0)
    tail = os.pread(fd, size - start, start)
    return tail if start == 0 else tail[tail.find(b"\n") + 1 or len(tail) :]


def _last_lines(file: IO[bytes], count: int) -> list[bytes]:
    """The last `count` whole lines."""
    size = file.seek(0, os.SEEK_END)
    wanted = _BLOCK
    while True:
        start = max(size - wanted, 0)
        file.seek(start)
        tail = file.read(size - start)
        lines = tail.split(b"\n")[:-1]
        if start == 0 or len(lines) > count:
            return lines[-count:]
        wanted *= 4


def _first_line(segment: Segment) -> bytes:
    with _reading(segment) as file:
        return file.readline(MAX_LINE_BYTES)


@contextmanager
def _reading(segment: Segment) -> Iterator[IO[bytes]]:
    """The segment from its start; a descriptor stays open."""
    with os.fdopen(os.dup(segment) if isinstance(segment, int) else open_regular(segment, os.O_RDONLY), "rb") as file:
        file.seek(0)
        yield file


def _later(one: Link | None, other: Link | None) -> Link | None:
    return max((link for link in (one, other) if link), key=lambda link: link.seq, default=None)


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns
