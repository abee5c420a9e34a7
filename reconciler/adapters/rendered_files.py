"""The Files port: the `rendered/` folder, which nobody but us should write to and everybody may.

A file is replaced whole or not at all (temporary file, sync, rename, sync of the folder). Paths are walked folder by
folder without following a link, so that nothing outside the root can be reached, whatever somebody put inside.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reconciler.adapters import clock
from reconciler.core.plan import OK, Outcome, RemoveFile, Result, WriteFile
from reconciler.formats.rendered import COMPOSE_FILE

PROXYS_OWN = ("nginx/live/flags", "nginx/live/sets", "nginx/live/next", "nginx/live/testers")
"""What the Proxy port keeps under `rendered/`: not files that anybody renders."""

UNREADABLE = "unreadable"
"""In place of a digest: differs from every text, so that the file is written anew."""

READ_MAX_BYTES = 16 * 1024 * 1024
RACY_S = 2.0
"""A file changed this recently is read again next time: a later change could leave the same time stamp."""

_TEMPORARY = ".swiftdeploy-new"
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Fingerprint = tuple[int, int, int, int]

PUBLIC, PRIVATE = 0o644, 0o640
"""What containers mount is for all to read; the Compose file has the services' environment in it."""


class _Refused(Exception):
    """The path must not be written or removed, and why."""


class RenderedFiles:
    """Files under `root`. `leave_out` are folders (relative to it) that somebody else of us looks after."""

    def __init__(
        self, root: Path, *, leave_out: Collection[str] = PROXYS_OWN, now: Callable[[], float] = clock.now
    ) -> None:
        self._root = root
        self._leave_out = frozenset(leave_out)
        self._now = now
        self._known: dict[str, tuple[Fingerprint, str]] = {}

    def digests(self) -> dict[str, str]:
        """SHA-256 (hex) of every regular file by its path relative to `rendered/`; links are not followed."""
        found = {path: self._digest(path, entry) for path, entry in self._files(self._root, "")}
        self._known = {path: known for path, known in self._known.items() if path in found}
        return found

    def apply(self, action: WriteFile | RemoveFile) -> Result:
        """Replace or remove one file atomically. Never raises."""
        try:
            if isinstance(action, WriteFile):
                self._write(action.path, action.content.encode("utf-8"))
            else:
                self._remove(action.path)
        except _Refused as refused:
            return Result(Outcome.FAILED, f"{action.path}: {refused}")
        except OSError as error:
            return Result(Outcome.FAILED, _in_words(self._root / action.path, error))
        return OK

    def _files(self, folder: Path, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            return
        for entry in entries:
            path = f"{prefix}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if path not in self._leave_out:
                    yield from self._files(folder / entry.name, f"{path}/")
            elif entry.is_file(follow_symlinks=False) and not entry.name.endswith(_TEMPORARY):
                yield path, entry

    def _digest(self, path: str, entry: os.DirEntry[str]) -> str:
        try:
            fingerprint, changed_at = _fingerprint(entry.stat(follow_symlinks=False))
            known = self._known.get(path)
            if known is not None and known[0] == fingerprint:
                return known[1]
            digest = _sha256_of(entry.path)
        except OSError:
            return UNREADABLE
        if abs(self._now() - changed_at) > RACY_S:
            self._known[path] = (fingerprint, digest)
        return digest

    def _write(self, path: str, content: bytes) -> None:
        with self._parent(path, make=True) as (folder, name):
            _refuse_what_is_no_file(folder, name)
            temporary = f".{name}{_TEMPORARY}"
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            try:
                _write_synced(folder, temporary, content, PRIVATE if path == COMPOSE_FILE else PUBLIC)
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise
            os.fsync(folder)

    def _remove(self, path: str) -> None:
        try:
            with self._parent(path, make=False) as (folder, name):
                _refuse_what_is_no_file(folder, name)
                os.unlink(name, dir_fd=folder)
                os.fsync(folder)
        except FileNotFoundError:
            return

    @contextmanager
    def _parent(self, path: str, *, make: bool) -> Iterator[tuple[int, str]]:
        """The folder that holds `path`, open, and the last part of the name."""
        *folders, name = _parts(path)
        if make:
            self._root.mkdir(parents=True, exist_ok=True)
        here = os.open(self._root, _FOLDER & ~os.O_NOFOLLOW)
        try:
            for part in folders:
                inner = _open_folder(here, part, make=make)
                os.close(here)
                here = inner
            yield here, name
        finally:
            os.close(here)


def _parts(path: str) -> list[str]:
    parts = path.split("/")
    if not path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise _Refused("this is not a path inside the folder of rendered files.")
    return parts


def _open_folder(parent: int, name: str, *, make: bool) -> int:
    """The folder `name`, open; one made here can be read by everybody, as a container that mounts it must."""
    is_new = make and _make_folder(parent, name)
    try:
        folder = os.open(name, _FOLDER, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise _Refused(f"{name} in it is a link or a file where a folder should be. Remove it.") from error
        raise
    if is_new:
        os.fchmod(folder, 0o755)
    return folder


def _make_folder(parent: int, name: str) -> bool:
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
    except FileExistsError:
        return False
    return True


def _refuse_what_is_no_file(folder: int, name: str) -> None:
    with suppress(FileNotFoundError):
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if not stat.S_ISREG(mode):
            raise _Refused("there is a link, a folder or a device in its place. Remove it.")


def _write_synced(folder: int, name: str, content: bytes, mode: int) -> None:
    descriptor = os.open(name, _NEW_FILE, mode, dir_fd=folder)
    with open(descriptor, "wb") as target:
        os.fchmod(descriptor, mode)
        target.write(content)
        target.flush()
        os.fsync(descriptor)


def _fingerprint(found: os.stat_result) -> tuple[Fingerprint, float]:
    """What differs whenever the content does (but for RACY_S), and when the file last changed."""
    return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino), max(found.st_mtime, found.st_ctime)


def _sha256_of(path: str) -> str:
    """Reads a regular file and nothing else, whatever took its place since it was listed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as source:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > READ_MAX_BYTES:
            return UNREADABLE
        return hashlib.sha256(source.read(READ_MAX_BYTES)).hexdigest()


def _in_words(path: Path, error: OSError) -> str:
    if error.errno in _NO_ROOM:
        return f"The disk is full: {path} could not be written. The old file stays. Free space."
    if error.errno == errno.EROFS:
        return f"{path} could not be written: the file system is read-only."
    return f"{path} could not be written: {error.strerror}."
