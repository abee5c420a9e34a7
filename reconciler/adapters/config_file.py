"""The daemon's own file on this host. Only a regular file of a sane size is read; who else may write it is said."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

from reconciler.core.errors import Problem
from reconciler.formats import daemon_config, yaml_strict
from reconciler.formats.daemon_config import ConfigReading, DaemonConfig


def read_config(path: Path, *, required: bool) -> ConfigReading:
    """What the daemon's file at `path` says. Never raises.

    A missing file says nothing, unless it is `required`. Warnings tell when somebody else than root and this user may
    change it: whoever can decides what runs on this host.
    """
    try:
        data, status = _bytes(path)
    except FileNotFoundError:
        if not required:
            return ConfigReading(DaemonConfig())
        return _unreadable(path, "is not there. Write it (docs/config.md), or leave --config out.")
    except OSError as error:
        return _unreadable(path, f"cannot be read: {error.strerror}. Is it this user's to read?")
    if data is None:
        return _unreadable(path, "is not a regular file. Write one (docs/config.md).")
    reading = daemon_config.read(data, str(path))
    doubt = _doubt(status)
    return replace(reading, warnings=(Problem(str(path), 0, 0, doubt), *reading.warnings)) if doubt else reading


def _bytes(path: Path) -> tuple[bytes | None, os.stat_result]:
    """Its bytes, one more than the most that is read at most; None where it is not a regular file. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None, status
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(yaml_strict.MAX_BYTES + 1), status
    finally:
        os.close(descriptor)


def _unreadable(path: Path, why: str) -> ConfigReading:
    return ConfigReading(None, (Problem(str(path), 0, 0, f"the configuration {why}"),))


def _doubt(status: os.stat_result) -> str:
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o022:
        return f"others may write it (mode {mode:04o}), and so choose what runs on this host. `chmod go-w` it."
    if status.st_uid not in (0, os.geteuid()):
        return f"it belongs to the user {status.st_uid}, who so chooses what runs on this host. `chown root` it."
    return ""
