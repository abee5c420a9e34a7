"""All segments of a log as one, for readers: beside the writer or without it, while it rotates or compresses."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from reconciler.adapters.history_segments import (
    LIVE,
    Segment,
    finished,
    first_line,
    last_lines,
    lines_of,
    packed,
    reading,
)
from reconciler.adapters.state_dir import open_regular, translated
from reconciler.core.desired import Json
from reconciler.formats.history import MAX_LINE_BYTES, ORIGIN, Link, Report, parse, sequence, verify

_LISTINGS = 100
DAMAGE = ("history_tampered", "history_corrupt")


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
        self._live = self.directory / LIVE

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
            for segment, file in _opened(segments[index:]):
                if offset and segment is segments[index]:
                    file.seek(offset)
                    yield from _records(file, offset, position.seq, is_behind)
                else:
                    yield from _records(file, 0, position.seq, is_behind)
                is_behind = True

    def tail(self, count: int) -> list[dict[str, Json]]:
        """The last `count` records, oldest first."""
        lines: list[bytes] = []
        with self._segments() as segments:
            for segment in reversed(segments):
                if len(lines) < count:
                    with suppress(FileNotFoundError):  # of the oldest, which was removed meanwhile
                        lines = [*last_lines(segment, count - len(lines)), *lines]
        return [parse(line) for line in lines]

    def lines(self, longest: int = MAX_LINE_BYTES) -> Iterator[bytes]:
        """Every line as it is, oldest first; one beyond `longest` comes in pieces."""
        for _, lines in self.segments(longest):
            yield from lines

    def segments(self, longest: int = MAX_LINE_BYTES) -> Iterator[tuple[str, Iterable[bytes]]]:
        """Each segment's file name and lines, oldest first; the lines are to be read before the next segment."""
        with self._segments() as segments:
            for segment, file in _opened(segments):
                yield self._name(segment), lines_of(file, longest)

    def verify(self, prev: Link | None = ORIGIN, *, full: bool = False, expected: Link | None = None) -> Report:
        """Walk the whole chain over all segments; see `formats.history.verify`.

        Where old segments were archived, `prev` is the last link of those; None believes the first line there is.
        """
        return verify(self.lines(), prev, full=full, expected=expected)

    def damage(self) -> list[dict[str, Json]]:
        """The records that say the log was changed or lost by another: each is the first of a segment."""
        with self._segments() as segments:
            firsts = [parse(line) for _, file in _opened(segments) if (line := file.readline(MAX_LINE_BYTES))]
        return [record for record in firsts if record.get("kind") in DAMAGE]

    def finished(self) -> list[Path]:
        """The finished segments, oldest first, by their plain names; one that is compressed ends in `.gz` besides."""
        return finished(self.directory)

    @contextmanager
    def _segments(self) -> Iterator[list[Segment]]:
        """Every segment, oldest first; what is rotated or compressed from here on is neither missed nor read twice.

        The list counts only if the live segment was the same one before and after it was made.
        """
        with translated(self._live):
            for _ in range(_LISTINGS):
                with ExitStack() as stack:
                    live: int | None = None
                    with suppress(FileNotFoundError):
                        live = open_regular(self._live, os.O_RDONLY)
                        stack.callback(os.close, live)
                    before = self.finished()
                    if _is_still(self._live, live):
                        yield [*before, *([] if live is None else [live])]
                        return
        raise AssertionError(f"{self._live} was replaced {_LISTINGS} times while it was opened")

    def _name(self, segment: Segment) -> str:
        if isinstance(segment, int):
            return LIVE
        return segment.name if segment.exists() else packed(segment).name


def _opened(segments: list[Segment]) -> Iterator[tuple[Segment, BufferedReader]]:
    """Each with its lines. The oldest may have been removed since they were listed: then there are fewer of them."""
    is_begun = False
    for segment in segments:
        with ExitStack() as stack:
            try:
                file = stack.enter_context(reading(segment))
            except FileNotFoundError:
                if is_begun:
                    raise
                continue
            is_begun = True
            yield segment, file


def _is_still(path: Path, fd: int | None) -> bool:
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return fd is None
    return fd is not None and os.path.samestat(there, os.fstat(fd))


def _records(
    file: BufferedReader, offset: int, seq: int, is_behind: bool
) -> Iterator[tuple[dict[str, Json], Position]]:
    """The whole lines from `offset` on, each with its position; those after record `seq`, unless all of them are."""
    inode = os.fstat(file.fileno()).st_ino
    for line in lines_of(file):
        if not line.endswith(b"\n"):
            return
        offset += len(line)
        number = sequence(line)
        is_behind = is_behind or (number is not None and number > seq)
        if is_behind:
            seq = number or seq
            yield parse(line), Position(inode, offset, seq)


def _find(segments: list[Segment], position: Position) -> tuple[int, int]:
    """The index of the segment to go on in, and the byte; byte 0 where only the record's number tells.

    An inode alone would not do: one that was freed by compressing a segment is soon another file's.
    """
    for index, segment in enumerate(segments):
        if _is_at(segment, position):
            start = sequence(first_line(segment))
            if start is None or start <= position.seq:
                return index, position.offset
    there = [sequence(file.readline(MAX_LINE_BYTES)) for _, file in _opened(segments)]
    starts = [*(None for _ in segments[len(there) :]), *there]
    before = [index for index, start in enumerate(starts) if start is not None and start <= position.seq]
    return max(before, default=0), 0


def _is_at(segment: Segment, position: Position) -> bool:
    """Whether the position may be in this file; in one that is compressed there are none."""
    try:
        found = os.stat(segment)
    except FileNotFoundError:
        return False
    return found.st_ino == position.inode and found.st_size >= position.offset
