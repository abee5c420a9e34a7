"""A disk whose power goes: what was done to it is noted, and every state that may be found afterwards is made from it.

A file's bytes are safe once it was synced, names once their directory was. What was not synced may be there or not:
the bytes of a file whole, half, as zeros, or not at all; the changes of names up to any of them, in their order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Names = dict[str, int]


@dataclass
class File:
    """One inode: its bytes now, and those that are certainly on the disk."""

    content: bytes = b""
    synced: bytes = b""


@dataclass
class Moment:
    """The disk at one moment, with what the writer had been told by then."""

    files: dict[int, tuple[bytes, bytes]]
    names: list[Names]
    told: int


@dataclass
class Power:
    """Stands for `os` in the writer's modules; the real calls happen too, in a real directory."""

    directory: Path
    told: int = 0
    moments: list[Moment] = field(default_factory=list)
    _files: dict[int, File] = field(default_factory=dict)
    _names: Names = field(default_factory=dict)
    _steps: list[Names] = field(default_factory=lambda: [{}])
    _held: list[int] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: Any, flags: int, *more: Any, **named: Any) -> int:
        fd = os.open(path, flags, *more, **named)
        if flags & os.O_CREAT:
            inode = os.fstat(fd).st_ino
            self._held.append(os.dup(fd))  # so that no other file gets this inode
            self._files[inode] = File()
            self._name({**self._names, Path(path).name: inode})
        return fd

    def write(self, fd: int, content: bytes) -> int:
        file = self._files[os.fstat(fd).st_ino]
        file.content += content
        self._note()
        return os.write(fd, content)

    def ftruncate(self, fd: int, size: int) -> None:
        file = self._files[os.fstat(fd).st_ino]
        file.content = file.content[:size]
        os.ftruncate(fd, size)
        self._note()

    def fdatasync(self, fd: int) -> None:
        file = self._files[os.fstat(fd).st_ino]
        file.synced = file.content
        self._note()

    def fsync(self, _directory: int) -> None:
        self._steps = [self._names]
        self._note()

    def rename(self, old: Path, new: Path) -> None:
        os.rename(old, new)
        names = dict(self._names)
        names[new.name] = names.pop(old.name)
        self._name(names)

    def unlink(self, path: Path) -> None:
        os.unlink(path)
        self._name({name: inode for name, inode in self._names.items() if name != path.name})

    def _name(self, names: Names) -> None:
        self._names = names
        self._steps.append(names)
        self._note()

    def _note(self) -> None:
        files = {inode: (file.content, file.synced) for inode, file in self._files.items()}
        self.moments.append(Moment(files, list(self._steps), self.told))

    def let_go(self) -> None:
        for fd in self._held:
            os.close(fd)


def states(moment: Moment) -> Iterator[dict[str, bytes]]:
    """What may be found when the power went at this moment: file names with their bytes."""
    keeps: tuple[Callable[[bytes, bytes], bytes], ...] = (
        lambda content, synced: content,
        lambda content, synced: synced,
        lambda content, synced: synced + content[len(synced) :][: (len(content) - len(synced)) // 2],
        lambda content, synced: synced + b"\0" * (len(content) - len(synced)),
    )
    for names in moment.names:
        for keep in keeps:
            yield {name: keep(*moment.files[inode]) for name, inode in names.items()}
