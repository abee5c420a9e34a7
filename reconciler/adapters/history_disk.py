"""Every call by which the log changes the disk, in one place: what a crash can come between, and a test can fail."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

from reconciler.adapters.state_dir import open_own, sync_directory

if sys.platform == "darwin":
    import fcntl

__all__ = ["create", "remove", "rename", "set_mode", "sync_directory", "sync_file", "truncate", "write_whole"]

MODE, MODE_FINISHED = 0o640, 0o440


def create(path: Path, mode: int = MODE) -> int:
    """A descriptor, for reading and appending, of a file that was not there before; `mode` whatever the umask says."""
    fd = open_own(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, mode)
    try:
        os.fchmod(fd, mode)
    except BaseException:
        os.close(fd)
        raise
    return fd


def write_whole(fd: int, content: bytes) -> None:
    """One write; a short one is a full disk that has not said so yet."""
    written = os.write(fd, content)
    if written != len(content):
        raise OSError(errno.ENOSPC, f"Only {written} of {len(content)} bytes could be written")


def sync_file(fd: int) -> None:
    """Afterwards the file's bytes are on the disk; macOS means it only when asked with F_FULLFSYNC."""
    if sys.platform == "darwin":
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(fd)


def truncate(fd: int, size: int) -> None:
    os.ftruncate(fd, size)


def rename(old: Path, new: Path) -> None:
    os.rename(old, new)


def remove(path: Path) -> None:
    os.unlink(path)


def set_mode(path: Path, mode: int) -> None:
    os.chmod(path, mode)
