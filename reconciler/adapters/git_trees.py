"""What was taken from commits, as plain files: one folder a commit, whole or not there.

Files are regular, for nobody to run, and old to look at: nobody takes them for somebody's work in progress.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from reconciler.adapters.state_dir import sync_directory

FILE_MODE, FOLDER_MODE = 0o640, 0o750
KEPT = 3
_NAME = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_SYNCED_ONE_BY_ONE = 50


class Trees:
    """The folders below `folder`, each named by its commit's id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, commit: str) -> Path:
        """Where the commit's files are, or would be."""
        return self._folder / commit

    def has(self, commit: str) -> bool:
        """Whether they are there."""
        return self.path(commit).is_dir()

    def put(self, commit: str, files: Mapping[str, bytes]) -> None:
        """Afterwards they are there, on the disk; if this raises OSError, or the power goes, nothing is."""
        self._folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        temporary = self._folder / f".{commit}.new"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir(mode=FOLDER_MODE)
            for name, data in files.items():
                path = temporary / name
                path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
                _write(path, data, sync=len(files) <= _SYNCED_ONE_BY_ONE)
            if len(files) > _SYNCED_ONE_BY_ONE:
                os.sync()
            for folder, _, _ in os.walk(temporary):
                sync_directory(Path(folder))
            shutil.rmtree(self.path(commit), ignore_errors=True)
            temporary.rename(self.path(commit))
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_directory(self._folder)

    def keep(self, commits: Iterable[str]) -> None:
        """Remove all others, and what a crash left half-made."""
        wanted = set(commits)
        with suppress(FileNotFoundError):
            for entry in list(os.scandir(self._folder)):
                if entry.name not in wanted and (_NAME.fullmatch(entry.name) or entry.name.endswith(".new")):
                    shutil.rmtree(entry.path, ignore_errors=True)


def _write(path: Path, data: bytes, *, sync: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(descriptor, FILE_MODE)
        os.utime(descriptor, (0, 0))
        if sync:
            os.fsync(descriptor)
