"""What a start finds wrong with a log, and what it may mend: only what a crash can have done."""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from reconciler.adapters import history_disk as disk
from reconciler.adapters.history_live import LiveSegment
from reconciler.adapters.history_segments import LIVE, end_of, finished, first_line, tail_of
from reconciler.adapters.state_dir import open_own
from reconciler.core.desired import Json
from reconciler.formats.history import MAX_LINE_BYTES, Link, Tail, parse, recover_tail


def cut_torn_tail(live: LiveSegment, now: str) -> dict[str, Json] | None:
    """Move what a crash left behind the last whole line to `quarantine/`; the record that says so, None if nothing was.

    More than one line's worth is not what a crash leaves: it stays, and is found as a break.
    """
    size = os.fstat(live.fd).st_size
    tail = recover_tail(end_of(live.fd))
    if not 0 < len(tail.torn) <= MAX_LINE_BYTES:
        return None
    kept = _save_torn(live.directory, tail)
    disk.truncate(live.fd, size - len(tail.torn))
    disk.sync_file(live.fd)
    digest = sha256(tail.torn).hexdigest()
    what: dict[str, Json] = {"bytes": len(tail.torn), "sha256": digest, "kept_as": f"quarantine/{kept.name}"}
    return {"timestamp": now, "kind": "history_recovered", **what}


def end_of_finished(directory: Path) -> Link | None:
    """The last link in the finished segments, as far back as one can be read."""
    for path in reversed(finished(directory)):
        end = tail_of(path)
        if end.last is not None:
            return end.last
    return None


def gap(live: LiveSegment, before: Link | None) -> str | None:
    """Why the live segment does not go on from the finished one before it, unless its first record says so."""
    first = parse(first_line(live.fd))
    is_plain = first.get("kind") == "segment_start" and first.get("reason") == "size"
    if before is None or not is_plain or first.get("prev") == before.hash:
        return None
    return f"{LIVE} starts with record {first.get('seq')}, but the segment before it ends with record {before.seq}"


def free_in_quarantine(directory: Path, stem: str) -> Path:
    """A name in `quarantine/` that nothing has."""
    folder = directory / "quarantine"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    taken = set(os.listdir(folder))
    number = next(number for number in range(1, len(taken) + 2) if f"{stem}-{number}" not in taken)
    return folder / f"{stem}-{number}"


def _save_torn(directory: Path, tail: Tail) -> Path:
    path = free_in_quarantine(directory, f"torn-{tail.last.seq + 1 if tail.last else 0}")
    fd = open_own(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        disk.write_whole(fd, tail.torn)
        disk.sync_file(fd)
    finally:
        os.close(fd)
    disk.sync_directory(path.parent)
    return path
