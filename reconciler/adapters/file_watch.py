"""Tells when the manifest may have changed: a hint that makes the next cycle come at once, never a truth.

The folder is watched, not the file: editors replace files, and a watch on one follows the old inode. Where the
folder is a symbolic link, the folder it points to and the one that holds the link are watched as well, so that
turning the link is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from watchdog.events import DirCreatedEvent, FileMovedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.polling import PollingObserver

POLICIES = "policies"
SEEN_TYPES = frozenset({"created", "modified", "moved", "deleted", "closed"})


class FileWatch:
    """Watches until `stop`. `changed` is called from another thread with true when a file was renamed into place."""

    def __init__(self, manifest: Path, changed: Callable[[bool], None]) -> None:
        self._manifest = manifest
        self._changed = changed
        self.is_polling = False
        self._observer = self._started(Observer())

    def _started(self, observer: object) -> object:
        """Start watching; where inotify has no watches left, look every second instead."""
        try:
            return self._schedule(observer)
        except OSError:
            self.is_polling = True
            return self._schedule(PollingObserver(timeout=1.0))

    def _schedule(self, observer: object) -> object:
        def watch_all() -> None:
            for folder in watched_folders(self._manifest):
                observer.schedule(handler, str(folder))  # type: ignore[attr-defined]

        handler = _Handler(self._manifest.name, self._changed, watch_all)
        watch_all()
        observer.start()  # type: ignore[attr-defined]
        return observer

    def stop(self) -> None:
        """No more calls."""
        self._observer.stop()  # type: ignore[attr-defined]
        self._observer.join(2.0)  # type: ignore[attr-defined]


def watched_folders(manifest: Path) -> tuple[Path, ...]:
    """The folders in which something may happen that changes what `manifest` holds."""
    folder = manifest.parent
    found = [folder.resolve()]
    found += [link.parent.resolve() for link in (folder, *folder.parents) if link.is_symlink()]
    policies = folder / POLICIES
    if policies.is_dir():
        found.append(policies.resolve())
    return tuple(dict.fromkeys(found))


class _Handler(FileSystemEventHandler):
    def __init__(self, name: str, changed: Callable[[bool], None], watch_all: Callable[[], None]) -> None:
        self._name = name
        self._changed = changed
        self._watch_all = watch_all

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type not in SEEN_TYPES:
            return
        path, target = Path(str(event.src_path)), Path(str(event.dest_path or event.src_path))
        is_new_folder = isinstance(event, DirCreatedEvent) and path.name == POLICIES
        if is_new_folder or path.is_symlink() or target.is_symlink():
            with suppress(OSError):
                self._watch_all()
        if isinstance(event, FileMovedEvent) and target.name == self._name:
            self._changed(True)
        elif self._matters(path) or self._matters(target):
            self._changed(False)

    def _matters(self, path: Path) -> bool:
        return path.name in (self._name, POLICIES) or path.suffix in (".rego", ".env") or path.is_symlink()
