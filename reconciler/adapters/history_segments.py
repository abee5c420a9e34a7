"""The files of a log: the live segment, the finished ones before it (plain or compressed), and the lines in them.

`history.jsonl` is always the segment being written; finished ones are `history-000001.jsonl` and so on, read-only,
later `history-000001.jsonl.gz`. Between the two both may be there, with the same bytes: then the plain one is read. A
reader opens whichever is there at that moment, so compressing takes nothing from anybody.
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader, FileIO, RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.adapters.state_dir import open_regular
from reconciler.formats.history import MAX_LINE_BYTES, recover_tail
from reconciler.formats.history_chain import Tail

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

LIVE, NEXT = "history.jsonl", "history.jsonl.next"
PACKED = ".gz"
BLOCK = 256 * 1024

Segment = Path | int  # a finished one by its plain name, the live one by descriptor

_FINISHED = re.compile(r"history-([0-9]{6}|[1-9][0-9]{6,})\.jsonl(\.gz)?\Z")


def finished(directory: Path) -> list[Path]:
    """The finished segments, oldest first, by the names they have uncompressed."""
    numbers = {int(match[1]) for name in os.listdir(directory) if (match := _FINISHED.match(name))}
    return [directory / f"history-{number:06d}.jsonl" for number in sorted(numbers)]


def packed(segment: Path) -> Path:
    """Where a finished segment is once it is compressed."""
    return segment.with_name(segment.name + PACKED)


def next_finished(directory: Path) -> Path:
    """The name that the live segment gets when it is finished."""
    last = finished(directory)
    number = int(last[-1].stem.removeprefix("history-")) + 1 if last else 1
    return directory / f"history-{number:06d}.jsonl"


@contextmanager
def reading(segment: Segment) -> Iterator[BufferedReader]:
    """The segment's lines from its start; a descriptor stays open."""
    with _opened(segment) as file:
        yield file


def _opened(segment: Segment) -> BufferedReader:
    if isinstance(segment, int):
        live: BufferedReader = BufferedReader(FileIO(os.dup(segment)), BLOCK)
        live.seek(0)
        return live
    try:
        return BufferedReader(FileIO(open_regular(segment, os.O_RDONLY)), BLOCK)
    except FileNotFoundError:
        return BufferedReader(_Unpacked(open_regular(packed(segment), os.O_RDONLY)), BLOCK)


class _Unpacked(RawIOBase):
    """A compressed segment as if it were plain. A damaged one ends where the damage begins: a line too few, or torn."""

    def __init__(self, fd: int) -> None:
        self._raw = FileIO(fd)
        self._plain = gzip.GzipFile(fileobj=self._raw, mode="rb")

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        try:
            content = self._plain.read1(len(view))
        except (EOFError, zlib.error, gzip.BadGzipFile):
            return 0
        view[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._plain.close()
        self._raw.close()
        super().close()


def _is_packed(file: BufferedReader) -> bool:
    return isinstance(file.raw, _Unpacked)


def lines_of(file: BufferedReader, longest: int = MAX_LINE_BYTES) -> Iterable[bytes]:
    """Lines with their newlines; one beyond `longest` comes in pieces, so that no file fills the memory."""
    return iter(lambda: file.readline(longest), b"")


def first_line(segment: Segment) -> bytes:
    with reading(segment) as file:
        return file.readline(MAX_LINE_BYTES)


def last_lines(segment: Segment, count: int) -> list[bytes]:
    """The last `count` whole lines."""
    with reading(segment) as file:
        if _is_packed(file):
            return list(deque((line for line in lines_of(file) if line.endswith(b"\n")), maxlen=count))
        return _last_plain_lines(file, count)


def _last_plain_lines(file: BufferedReader, count: int) -> list[bytes]:
    size = file.seek(0, os.SEEK_END)
    wanted = BLOCK
    while True:
        start = max(size - wanted, 0)
        file.seek(start)
        lines = file.read(size - start).split(b"\n")[:-1]
        if start == 0 or len(lines) > count:
            return lines[-count:] if count else []
        wanted *= 4


def tail_of(segment: Segment) -> Tail:
    """How the segment ends: its last link, or why it cannot be trusted."""
    with reading(segment) as file:
        if _is_packed(file):
            return recover_tail(b"".join(deque(lines_of(file), maxlen=2)))
        return recover_tail(end_of(file.fileno()))


def end_of(fd: int) -> bytes:
    """The last bytes of the file from a line's start: enough for a torn line and the one before it."""
    size = os.fstat(fd).st_size
    start = max(size - BLOCK, 0)
    tail = os.pread(fd, size - start, start)
    return tail if start == 0 else tail[tail.find(b"\n") + 1 or len(tail) :]
