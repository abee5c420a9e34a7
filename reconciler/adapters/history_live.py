"""The segment that is being written: one descriptor, its size, its last link, and how it gives way to the next one.

A new segment is written as `history.jsonl.next` first and renamed into place, so a crash leaves either the old state or
one that the next start completes: a missing `history.jsonl` without a `.next` was removed by somebody.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from reconciler.adapters import history_disk as disk
from reconciler.adapters.history_segments import BLOCK, LIVE, NEXT, lines_of, next_finished, reading
from reconciler.adapters.state_dir import open_own
from reconciler.formats.history import Link, Report, verify

Stamp = tuple[int, int, int]


class LiveSegment:
    """`history.jsonl`, held open; raises OSError, and StateError for a file that is not ours. Decides nothing."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / LIVE
        self.fd = -1
        self.size = 0
        self.link: Link | None = None
        self._stamp: Stamp = (0, 0, 0)

    @property
    def is_open(self) -> bool:
        return self.fd >= 0

    def open(self) -> None:
        """FileNotFoundError where there is none; `note` must follow once it is known where the log goes on."""
        self.fd = open_own(self.path, os.O_RDWR | os.O_APPEND)
        if stat.S_IMODE(os.fstat(self.fd).st_mode) != disk.MODE:
            os.fchmod(self.fd, disk.MODE)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def close_unless_last(self) -> None:
        """A file without a name would be gone with its descriptor: it is kept until there is room to restore it."""
        if self.fd >= 0 and os.fstat(self.fd).st_nlink > 0:
            self.close()

    def note(self, size: int, link: Link) -> None:
        """Remember that this is what we left there: `size` bytes that end with `link`."""
        self.size, self.link = size, link
        self._stamp = _stamp(os.fstat(self.fd))

    def undo(self) -> None:
        """Cut off what a failed write left; where that fails too, the next opening finds a torn tail."""
        with suppress(OSError):
            disk.truncate(self.fd, self.size)

    def verify(self, expected: Link | None = None) -> Report:
        """A walk over this segment alone."""
        with reading(self.fd) as file:
            return verify(lines_of(file), None, expected=expected)

    # --- strangers ---------------------------------------------------------------------------------------------

    def stranger(self) -> str | None:
        """`removed` or `replaced` where the name leads to our file no more, else None."""
        there = _lstat(self.path)
        if there is None:
            return "removed"
        return None if os.path.samestat(os.fstat(self.fd), there) else "replaced"

    def changed(self) -> str | None:
        """How another changed our file since our last write; None where nobody did more than `touch` or `chmod`."""
        ours = os.fstat(self.fd)
        if ours.st_size != self.size:
            how = "cut off" if ours.st_size < self.size else "written to"
            return f"{LIVE} was {how} by another: {ours.st_size} bytes, not {self.size}"
        if _stamp(ours) == self._stamp:
            return None
        report = self.verify()
        if report.is_whole and report.last == self.link:
            self._stamp = _stamp(os.fstat(self.fd))
            return None
        return f"{LIVE} was changed by another: {report.first_break or 'it ends with another record'}"

    # --- giving way --------------------------------------------------------------------------------------------

    def has_name(self) -> bool:
        return _lstat(self.path) is not None

    def replace(self, line: bytes, link: Link, finished: Path, stranger: Path | None, *, restore: bool) -> None:
        """Afterwards `history.jsonl` is a new file that begins with `line`, and the old one is `finished`.

        With `restore` the old segment is the file we hold, not the one of that name, which is moved to `stranger`.
        """
        fd = self._write_next(line)
        try:
            if stranger is not None:
                disk.rename(self.path, stranger)
            if restore:
                self._copy_held_to(finished)
            elif self.has_name():
                disk.rename(self.path, finished)
                with suppress(OSError):
                    disk.set_mode(finished, disk.MODE_FINISHED)
            disk.rename(self.directory / NEXT, self.path)
            disk.sync_directory(self.directory)
        except BaseException:
            os.close(fd)
            raise
        self.close()
        self.fd = fd
        self.note(len(line), link)

    def complete_replacement(self) -> None:
        """What a crash left between the steps of `replace`: the new segment counts if the old one was moved."""
        following = self.directory / NEXT
        if _lstat(following) is None:
            return
        if self.has_name():
            disk.remove(following)
        else:
            disk.rename(following, self.path)
        disk.sync_directory(self.directory)

    def next_finished(self) -> Path:
        return next_finished(self.directory)

    def _write_next(self, line: bytes) -> int:
        """`history.jsonl.next` with its first line, on the disk; what an earlier attempt left is removed."""
        path = self.directory / NEXT
        with suppress(FileNotFoundError):
            disk.remove(path)
        fd = disk.create(path)
        try:
            disk.write_whole(fd, line)
            disk.sync_file(fd)
            disk.sync_directory(self.directory)
        except BaseException:
            os.close(fd)
            with suppress(OSError):
                disk.remove(path)
            raise
        return fd

    def _copy_held_to(self, finished: Path) -> None:
        """The bytes of the file we hold open, under a name again."""
        copy = disk.create(finished)
        try:
            offset = 0
            while block := os.pread(self.fd, min(BLOCK, self.size - offset), offset):
                disk.write_whole(copy, block)
                offset += len(block)
            os.fchmod(copy, disk.MODE_FINISHED)
            disk.sync_file(copy)
        except BaseException:
            with suppress(OSError):
                disk.remove(finished)
            raise
        finally:
            os.close(copy)


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns
