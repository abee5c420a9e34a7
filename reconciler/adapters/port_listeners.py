"""Who listens on a port of this machine."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_LISTENING = "0A"


def listener(port: int, proc: Path) -> str | None:
    """Who holds a TCP port of this machine, in words; None when nobody does.

    The process table is read only to name a holder: on a busy host its list of sockets takes half a second.
    """
    if can_bind(port):
        return None
    tables = [table for table in (proc / "net/tcp", proc / "net/tcp6") if table.exists()]
    inodes = {inode for table in tables for inode in _listening_sockets(table, port)}
    return _process_with(inodes, proc) if inodes else "another process"


def can_bind(port: int) -> bool:
    """Whether a listener could have the port. True also where only the right is lacking: the engine has it.

    With SO_REUSEADDR connections in TIME_WAIT do not count but listeners do, and a listener that comes while we try is
    not disturbed: its own SO_REUSEADDR (Docker's has it) lets it bind beside a socket that does not listen.
    """
    return all(_can_bind(family, host, port) for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")))


def _can_bind(family: socket.AddressFamily, host: str, port: int) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family is socket.AF_INET6:
                trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            trial.bind((host, port))
    except OSError as error:
        return error.errno != errno.EADDRINUSE
    return True


def _listening_sockets(table: Path, port: int) -> Iterator[str]:
    for line in table.read_text(encoding="ascii", errors="replace").splitlines()[1:]:
        columns = line.split()
        if len(columns) > 9 and columns[3] == _LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
            yield columns[9]


def _process_with(inodes: set[str], proc: Path) -> str:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for folder in proc.glob("[0-9]*/fd"):
        with suppress(OSError):
            if any(os.readlink(entry.path) in wanted for entry in os.scandir(folder)):
                name = (folder.parent / "comm").read_text(encoding="utf-8", errors="replace").strip()
                return f"process {name} (pid {folder.parent.name})"
    return "another process"
