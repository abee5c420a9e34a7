"""Finished segments removed, oldest first, once they take more than they may: none that is not whole and vouched for.

Before the first one goes, every line of it was looked at, the next segment goes on from its last record, a record in
the log names that last link, and a signature behind that record is on the disk. Where one of these cannot be had,
nothing is removed, and a record says why. The newest finished segment always stays.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path

from reconciler.adapters import history_disk as disk
from reconciler.adapters.history_segments import finished, first_line, lines_of, packed, reading
from reconciler.core.desired import Json
from reconciler.core.errors import HistoryError, StateError
from reconciler.formats.history_chain import Link, check, claimed_before
from reconciler.formats.history_pruned import MAX_NAMED, kept, pruned

STEP_LINES = 1000

Removable = list[tuple[Path, Link]]


def retention(
    directory: Path, keep_bytes: int, write: Callable[[dict[str, Json]], object], vouch: Callable[[], bool]
) -> Iterator[None]:
    """Keep the finished segments within `keep_bytes`, a step (about 20 ms) per `next`.

    `write` puts a record into the log; `vouch` writes a checkpoint and answers whether it is signed.
    """
    surplus = _surplus(directory, keep_bytes)
    if not surplus:
        return
    sound, trouble = yield from _examined(directory, surplus)
    if sound and not vouch():
        sound, trouble = [], "the checkpoint that must vouch for it cannot be signed"
    if sound:
        write(
            pruned([(path.name, link) for path, link in sound], f"the finished segments took over {keep_bytes} bytes")
        )
        trouble = _removed(sound) or trouble if vouch() else "the record of it cannot be signed"
    if trouble:
        write(kept(f"the finished segments take over {keep_bytes} bytes, but nothing more is removed: {trouble}"))


def _surplus(directory: Path, keep_bytes: int) -> list[Path]:
    """The oldest segments that are too many, never the newest one."""
    segments = finished(directory)
    total, fitting = 0, 0
    for segment in reversed(segments):
        total += sum(_size(path) for path in (segment, packed(segment)))
        if total > keep_bytes:
            break
        fitting += 1
    return segments[: len(segments) - max(fitting, 1)][:MAX_NAMED]


def _size(path: Path) -> int:
    try:
        return os.stat(path, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def _examined(directory: Path, surplus: list[Path]) -> Generator[None, None, tuple[Removable, str]]:
    """The segments that hold and that the next one goes on from, with their last links, up to the first that does not.

    Besides what is wrong with that one, or "".
    """
    following = dict(zip(surplus, finished(directory)[1:], strict=False))
    link = claimed_before(first_line(surplus[0]))
    sound: Removable = []
    for segment in surplus:
        try:
            link = yield from _walked(segment, link)
            check(first_line(following[segment]), link)
        except (HistoryError, StateError, OSError) as error:
            return sound, f"{segment.name}: {error}"
        sound.append((segment, link))
    return sound, ""


def _walked(segment: Path, link: Link | None) -> Generator[None, None, Link]:
    """The segment's last link; HistoryError where a line does not follow from the one before."""
    with reading(segment) as file:
        for number, line in enumerate(lines_of(file), 1):
            if not line.endswith(b"\n"):
                raise HistoryError(f"line {number} has no end")
            link = check(line, link)
            if number % STEP_LINES == 0:
                yield
    if link is None:
        raise HistoryError("there is no line in it")
    return link


def _removed(segments: Removable) -> str:
    """Remove them, oldest first and one by one, so that a crash leaves the newer ones; why one would not go, or ""."""
    for segment, _ in segments:
        try:
            for path in (segment, packed(segment)):
                with suppress(FileNotFoundError):
                    disk.remove(path)
            disk.sync_directory(segment.parent)
        except OSError as error:
            return f"{segment.name}: {error.strerror}"
    return ""
