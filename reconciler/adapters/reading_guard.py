"""A manifest whose reading ends the daemon is not read for ever: after its third death it is set aside.

What is about to be read is noted in a file of its own, which goes when the reading has come back, well or not. So
what such a file counts are readings that never came back: a crash of a parser's machine code, a process that the
kernel killed for its memory. A file that cannot be written counts nothing: reading matters more than counting.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

MOST = 3
"""Deaths of one content until it is read no more."""
KEPT = 20
"""So many contents are remembered."""


class ReadingGuard:
    """The readings that never came back, by their content, in `folder`, which is made when it is needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def deaths(self, content: bytes) -> int:
        """How many readings of this content have not come back."""
        try:
            return self._note(content).stat(follow_symlinks=False).st_size
        except OSError:
            return 0

    @contextmanager
    def reading(self, content: bytes) -> Iterator[None]:
        """While it lasts the content is noted as being read."""
        note = self._note(content)
        is_noted = self._began(note)
        try:
            yield
        finally:
            if is_noted:
                _strike(note)

    def _note(self, content: bytes) -> Path:
        return self._folder / sha256(content).hexdigest()

    def _began(self, note: Path) -> bool:
        try:
            self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._forget_old()
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            descriptor = os.open(note, flags, 0o640)
            try:
                return os.write(descriptor, b"+") == 1
            finally:
                os.close(descriptor)
        except OSError:
            return False

    def _forget_old(self) -> None:
        notes = sorted(self._folder.iterdir(), key=lambda note: note.lstat().st_mtime)
        for note in notes[: max(0, len(notes) - KEPT + 1)]:
            with suppress(FileNotFoundError):
                note.unlink()


def _strike(note: Path) -> None:
    """The reading came back: whatever the folder allows, it does not count."""
    try:
        note.unlink(missing_ok=True)
    except OSError:
        with suppress(OSError):
            os.truncate(note, 0)
