"""Finished segments made small: the same bytes in a gzip file, so the chain does not notice.

The compressed file is written under a temporary name, synced, read back and compared, renamed; only then the plain one
goes. A crash anywhere leaves the plain one, or both, and the work is done again. The newest finished segment stays
plain: it is what most readers want, and what the next start looks at.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Generator, Iterator
from contextlib import suppress
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import IO

from reconciler.adapters import history_disk as disk
from reconciler.adapters.history_segments import finished, packed
from reconciler.adapters.state_dir import open_own
from reconciler.core.errors import StateError

STEP_BYTES = 1024 * 1024
_GZIP = 31  # zlib's word for its largest window in a gzip file


def packing(directory: Path) -> Iterator[None]:
    """Compress what is finished and plain, a step (about 20 ms) per `next`; what cannot be done is left as it is."""
    for segment in finished(directory)[:-1]:
        if segment.exists():
            with suppress(OSError, StateError):
                yield from _pack(segment)


def _pack(segment: Path) -> Iterator[None]:
    temporary = packed(segment).with_name(packed(segment).name + ".tmp")
    with suppress(FileNotFoundError):
        disk.remove(temporary)
    with os.fdopen(open_own(segment, os.O_RDONLY), "rb") as plain:
        before = os.fstat(plain.fileno())
        try:
            fd = disk.create(temporary)
            try:
                digest = yield from _squeezed(plain, fd)
                os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))
                os.fchmod(fd, disk.MODE_FINISHED)
                disk.sync_file(fd)
                is_same = (yield from _unpacked_digest(fd)) == digest
            finally:
                os.close(fd)
            if not is_same or _changed(before, segment):
                raise StateError(f"{segment} is not what was compressed. Look at the disk.")
            disk.rename(temporary, packed(segment))
        except BaseException:
            with suppress(OSError):
                disk.remove(temporary)
            raise
    disk.sync_directory(segment.parent)
    disk.remove(segment)
    disk.sync_directory(segment.parent)


def _squeezed(plain: IO[bytes], fd: int) -> Generator[None, None, bytes]:
    """Write the compressed bytes to `fd`; returns the digest of the plain ones."""
    squeeze, digest = zlib.compressobj(6, zlib.DEFLATED, _GZIP), sha256()
    while block := plain.read(STEP_BYTES):
        digest.update(block)
        if made := squeeze.compress(block):
            disk.write_whole(fd, made)
        yield
    disk.write_whole(fd, squeeze.flush())
    return digest.digest()


def _unpacked_digest(fd: int) -> Generator[None, None, bytes]:
    """The digest of what is in the compressed file, a step at a time; empty where it cannot be unpacked."""
    digest = sha256()
    with FileIO(os.dup(fd)) as raw, gzip.GzipFile(fileobj=raw, mode="rb") as file:
        raw.seek(0)
        try:
            while block := file.read(STEP_BYTES):
                digest.update(block)
                yield
        except (EOFError, zlib.error, gzip.BadGzipFile):
            return b""
    return digest.digest()


def _changed(before: os.stat_result, segment: Path) -> bool:
    now = os.stat(segment, follow_symlinks=False)
    return not os.path.samestat(before, now) or (before.st_size, before.st_mtime_ns) != (now.st_size, now.st_mtime_ns)
