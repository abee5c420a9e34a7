"""Tells when somebody commits in a checkout of this host: a hint to look, never a truth.

The folder's refs are watched, as files; git does not run there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

_SEEN = frozenset({"created", "modified", "moved", "deleted", "closed"})
_FILE_MAX = 4096


class RefsWatch:
    """Calls `changed` whenever refs of the repository in `folder` may have changed, until `stop`.

    `is_watching` is false where nothing can be watched: then a timer has to do.
    """

    def __init__(self, folder: Path, changed: Callable[[], None]) -> None:
        self._observer = Observer()
        self.is_watching = False
        with suppress(OSError):
            where = refs_folder(folder)
            if where is None:
                return
            handler = _Handler(where, changed)
            self._observer.schedule(handler, str(where))
            self._observer.schedule(handler, str(where / "refs"), recursive=True)
            self._observer.daemon = True
            self._observer.start()
            self.is_watching = True

    def stop(self) -> None:
        """No more calls."""
        if self.is_watching:
            self.is_watching = False
            self._observer.stop()
            self._observer.join(2.0)


def refs_folder(folder: Path) -> Path | None:
    """Where the refs of the repository in `folder` are: itself (bare), its `.git`, or where a `.git` file points."""
    for where in (folder, folder / ".git"):
        if (where / "refs").is_dir() and (where / "HEAD").exists():
            return where
    pointer = folder / ".git"
    if pointer.is_file():
        with suppress(OSError, UnicodeDecodeError):
            found = _pointed(pointer, folder, "gitdir: ")
            common = _pointed(found / "commondir", found, "") if (found / "commondir").is_file() else found
            return common if (common / "refs").is_dir() else None
    return None


def _pointed(file: Path, base: Path, before: str) -> Path:
    with file.open("rb") as opened:
        text = opened.read(_FILE_MAX).decode("utf-8").strip()
    return base / text.removeprefix(before)


class _Handler(FileSystemEventHandler):
    def __init__(self, folder: Path, changed: Callable[[], None]) -> None:
        self._folder = str(folder)
        self._changed = changed

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type not in _SEEN:
            return
        if any(self._matters(str(path)) for path in (event.src_path, event.dest_path) if path):
            self._changed()

    def _matters(self, path: str) -> bool:
        inside = path.removeprefix(self._folder).lstrip("/")
        return not inside.endswith(".lock") and (inside in ("HEAD", "packed-refs") or inside.startswith("refs/"))
