"""The state directory: who holds it, where things are in it, and files that are either the old or the new one.

    state/                0750, ours
    ├── history.jsonl     see `history_file.py`
    ├── rollout.json      in an envelope, so that a damaged one is seen
    ├── instance          a random id, given once: what our containers are labelled with
    ├── reserve           room for one more decision on a full disk
    ├── revisions/        <hash>.json, the same envelope
    ├── rendered/         0755, for it is mounted into containers
    ├── run/              lock, sockets
    └── quarantine/       0700, what was found damaged

Every path is walked from a descriptor of the directory without following links, so whoever can write into it cannot
make us read or write elsewhere.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path, PurePosixPath
from types import TracebackType

from reconciler.core.desired import Json
from reconciler.core.errors import StateError

MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_CORRUPT_KEPT = 20
ENVELOPE = 1

RESERVE = "reserve"
RESERVE_BYTES = 64 * 1024
"""Room on the disk for a decision, given up when there is no other: more than any rollout.json needs."""

_LAYOUT = {"revisions": 0o750, "rendered": 0o755, "run": 0o750, "quarantine": 0o700}
_TEMPORARY = re.compile(r"\.[^/]+\.[0-9]+-[0-9]+\.tmp\Z")
_INSTANCE = re.compile(r"[0-9a-zA-Z-]{8,64}\Z")
_ENVELOPE = re.compile(rb'\{"format":([0-9]{1,9}),"sha256":"([0-9a-f]{64})","state":')
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK_ATTEMPTS = 100
_temporary_numbers = count(1)


class LockHeld(StateError):
    """Another process works on this state directory; `pid` is None where it left no readable word."""

    def __init__(self, message: str, pid: int | None) -> None:
        super().__init__(message)
        self.pid = pid


@dataclass(frozen=True, slots=True)
class LoadedJson:
    """A JSON file: its value, or None; then `reason` says what was wrong with it, and `kept_as` where it is now."""

    value: dict[str, Json] | None
    kept_as: str | None = None
    reason: str | None = None

    @property
    def is_corrupt(self) -> bool:
        return self.reason is not None


class StateDir:
    """One state directory, ours alone while its lock is held; raises StateError and nothing else of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._root = -1

    def open(self) -> StateDir:
        """Lay out what is missing; refuses a directory that others could have filled."""
        with translated(self.path):
            with suppress(FileExistsError):
                self.path.mkdir(mode=0o750, parents=True)
                sync_directory(self.path.parent)
            self.close()
            self._root = _open_own_directory(self.path)
            for name, mode in _LAYOUT.items():
                _ensure_directory(self._root, name, mode)
        return self

    def close(self) -> None:
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def __enter__(self) -> StateDir:
        return self.open()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # --- whole files -------------------------------------------------------------------------------------------

    def write_bytes(self, relative: str, content: bytes, mode: int = 0o640) -> None:
        """Afterwards the file is the new one, on the disk; if this raises, or the power goes, the old or the new one.

        Missing directories are made with the mode of the one they are in.
        """
        with translated(self.path / relative), self._parent(relative, create=True) as (parent, name):
            temporary = f".{name}.{os.getpid()}-{next(_temporary_numbers)}.tmp"
            try:
                _write_new(parent, temporary, content, mode)
                os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=parent)
                raise
            os.fsync(parent)

    def read_bytes(self, relative: str, max_bytes: int = MAX_FILE_BYTES) -> bytes | None:
        """What is in the file; None where there is none. Links, pipes and files beyond `max_bytes` are refused."""
        content = self._read(relative, max_bytes)
        if content is not None and len(content) > max_bytes:
            raise StateError(f"{self.path / relative} is larger than {max_bytes} bytes. Move it away and look at it.")
        return content

    def remove(self, relative: str) -> None:
        """Afterwards the file is not there, whether it was or not."""
        with translated(self.path / relative), suppress(FileNotFoundError), self._parent(relative) as (parent, name):
            os.unlink(name, dir_fd=parent)
            os.fsync(parent)

    def names(self, relative: str) -> tuple[str, ...]:
        """The names in a directory, sorted, without our own temporary files; empty where there is none."""
        parts = PurePosixPath(relative).parts
        with translated(self.path / relative), suppress(FileNotFoundError), self._directory(parts) as directory:
            return tuple(sorted(name for name in os.listdir(directory) if not _TEMPORARY.match(name)))
        return ()

    # --- JSON in an envelope -----------------------------------------------------------------------------------

    def save_json(self, relative: str, value: Mapping[str, Json]) -> None:
        """`value`, readable, behind its own checksum: `jq .state` shows it."""
        try:
            body = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2).encode()
        except (ValueError, TypeError, RecursionError) as error:
            raise StateError(f"{self.path / relative} cannot hold this state: {error}") from error
        digest = sha256(body).hexdigest().encode()
        self.write_bytes(relative, b'{"format":%d,"sha256":"%b","state":%b}\n' % (ENVELOPE, digest, body))

    def save_decision(self, relative: str, value: Mapping[str, Json]) -> None:
        """As `save_json`, and on a full disk once more: the reserve is given up for it, and laid up again later."""
        try:
            self.save_json(relative, value)
        except StateError as error:
            if not _is_full(error.__cause__) or not self._has_reserve():
                raise
            self.remove(RESERVE)
            self.save_json(relative, value)
        else:
            self._lay_up_reserve()

    def _has_reserve(self) -> bool:
        with translated(self.path / RESERVE), suppress(FileNotFoundError):
            return os.stat(RESERVE, dir_fd=self._root, follow_symlinks=False).st_size == RESERVE_BYTES
        return False

    def _lay_up_reserve(self) -> None:
        """As far as there is room now. Random bytes, so that no file system stores them as nothing."""
        if not self._has_reserve():
            with suppress(StateError):  # the next decision tries again
                self.write_bytes(RESERVE, os.urandom(RESERVE_BYTES), 0o600)

    def load_json(self, relative: str) -> LoadedJson:
        """The value that was saved. A file that is not what was saved is moved to `<name>.corrupt-<n>` and is missing.

        Raises StateError where the file cannot be read at all, or a newer version wrote it: that one stays untouched.
        """
        content = self._read(relative, MAX_FILE_BYTES)
        if content is None:
            return LoadedJson(None)
        value, reason = _opened(content, self.path / relative)
        if reason is None:
            return LoadedJson(value)
        return LoadedJson(None, self._set_aside(relative), reason)

    def _set_aside(self, relative: str) -> str | None:
        """Rename a damaged file to a free name; None where not even that works, and it stays."""
        try:
            with self._parent(relative) as (parent, name):
                taken = set(os.listdir(parent))
                names = [f"{name}.corrupt-{number}" for number in range(1, MAX_CORRUPT_KEPT + 1)]
                kept = next((free for free in names if free not in taken), names[-1])
                os.rename(name, kept, src_dir_fd=parent, dst_dir_fd=parent)
                os.fsync(parent)
                return str(PurePosixPath(relative).with_name(kept))
        except OSError:
            return None

    def instance_id(self, new_id: Callable[[], str]) -> str:
        """The id that our containers carry; `new_id` is asked once in the life of a state directory.

        A damaged file raises: with a new id the containers that run would be strangers.
        """
        content = self.read_bytes("instance", 1024)
        if content is None:
            chosen = new_id()
            self.write_bytes("instance", chosen.encode() + b"\n")
            return chosen
        kept = content.decode("ascii", "replace").strip()
        if not _INSTANCE.match(kept):
            raise StateError(
                f"{self.path / 'instance'} is damaged. Put back the value of the label io.swiftdeploy.instance that "
                "this project's containers carry, or remove the file if there are none."
            )
        return kept

    # --- the lock ----------------------------------------------------------------------------------------------

    def lock(self, program: str = "reconcilerd", started: str = "") -> Lock:
        """Afterwards this process alone works here, and what a crash left half-written is gone; LockHeld otherwise.

        `started` (a timestamp, for people) and the pid are what another one is told.
        """
        with translated(self.path / "run/lock"):
            held = Lock.take(self.path, self._root, program, started)
            self._sweep(())
        return held

    def _sweep(self, parts: tuple[str, ...]) -> None:
        """Unlink our temporary files, here and below, as far as we may: only names we give, only our regular files."""
        with suppress(OSError), self._directory(parts) as directory:
            for entry in list(os.scandir(directory)):
                if entry.is_dir(follow_symlinks=False) and len(parts) < 16:
                    self._sweep((*parts, entry.name))
                elif _TEMPORARY.match(entry.name) and _is_own_file(entry.stat(follow_symlinks=False)):
                    os.unlink(entry.name, dir_fd=directory)

    # --- paths -------------------------------------------------------------------------------------------------

    def _read(self, relative: str, max_bytes: int) -> bytes | None:
        with translated(self.path / relative), suppress(FileNotFoundError), self._parent(relative) as (parent, name):
            file = os.fdopen(open_own(name, os.O_RDONLY, dir_fd=parent), "rb")
            with file:
                return file.read(max_bytes + 1)
        return None

    @contextmanager
    def _parent(self, relative: str, create: bool = False) -> Iterator[tuple[int, str]]:
        """A descriptor of the directory that `relative` is in, and the last part of its name."""
        *parts, name = PurePosixPath(relative).parts or ("",)
        with self._directory(tuple(parts), create) as directory:
            if name in ("", ".", "..", "/") or "\0" in relative:
                raise StateError(f"{relative!r} is not a path inside {self.path}.")
            yield directory, name

    @contextmanager
    def _directory(self, parts: tuple[str, ...], create: bool = False) -> Iterator[int]:
        if self._root < 0:
            raise StateError(f"{self.path} is not open.")
        if any(part in ("..", "/") or "\0" in part for part in parts):
            raise StateError(f"{'/'.join(parts)!r} is not a path inside {self.path}.")
        here = os.dup(self._root)
        try:
            for part in parts:
                if create:
                    _ensure_directory(here, part, stat.S_IMODE(os.fstat(here).st_mode))
                below = os.open(part, _DIRECTORY, dir_fd=here)
                os.close(here)
                here = below
            yield here
        finally:
            os.close(here)


class Lock:
    """The right to change this state directory, and what it deploys, until released or the process ends."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path, self._fd = path, fd

    @classmethod
    def take(cls, state: Path, root: int, program: str, started: str) -> Lock:
        """flock `run/lock`; again, if somebody removed the file between opening and locking it."""
        path = state / "run" / "lock"
        run = os.open("run", _DIRECTORY, dir_fd=root)
        try:
            for _ in range(_LOCK_ATTEMPTS):
                held = cls(path, open_own("lock", os.O_RDWR | os.O_CREAT, dir_fd=run))
                held._lock()
                if held.still_mine():
                    held._say(program, started)
                    return held
                held.release()
        finally:
            os.close(run)
        raise StateError(f"{path} is removed or moved again and again. Find out by whom.")

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            said = os.pread(self._fd, 1024, 0)
            self.release()
            raise _held_by_another(self._path, said) from None
        except OSError:
            self.release()
            raise

    def _say(self, program: str, started: str) -> None:
        """Who holds it, for the one who comes next; a full disk may forbid it, which is no reason not to hold it."""
        said = {"pid": os.getpid(), "program": program, "started": started}
        with suppress(OSError):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, json.dumps(said).encode() + b"\n", 0)

    def still_mine(self) -> bool:
        """False once the lock file was removed or replaced: another process may hold the new one. Ask every cycle."""
        if self._fd < 0:
            return False
        try:
            there = os.stat(self._path, follow_symlinks=False)
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(self._fd))

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


def _held_by_another(path: Path, content: bytes) -> LockHeld:
    """Who holds it, as far as the file tells."""
    try:
        said = json.loads(content)
        pid, program, started = int(said["pid"]), str(said["program"]), str(said["started"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return LockHeld(f"another reconcilerd (pid unknown) holds {path}. Stop it first.", None)
    since = f" since {started}" if started else ""
    return LockHeld(f"another {program} (pid {pid}) holds {path}{since}. Stop it first, or ask it to do this.", pid)


# --- descriptors ---------------------------------------------------------------------------------------------------


def open_own(name: str | Path, flags: int, mode: int = 0o640, dir_fd: int | None = None) -> int:
    """A descriptor of a regular file that is ours, or root's, and not everybody's; errors as `open_regular`."""
    fd = open_regular(name, flags, mode, dir_fd)
    found = os.fstat(fd)
    if found.st_uid in (os.geteuid(), 0) and not found.st_mode & stat.S_IWOTH:
        return fd
    os.close(fd)
    if found.st_mode & stat.S_IWOTH:
        raise StateError(f"{name} can be written by everybody. Check what is in it, then chmod o-w.")
    raise StateError(f"{name} belongs to uid {found.st_uid}, not to {os.geteuid()}. Check it, then chown it.")


def open_regular(name: str | Path, flags: int, mode: int = 0o640, dir_fd: int | None = None) -> int:
    """A descriptor of a regular file; FileNotFoundError as it is, StateError for a link, a pipe or a device."""
    try:
        fd = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, mode, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise StateError(f"{name} is a symbolic link. Put the file itself there.") from error
        if error.errno in (errno.ENXIO, errno.EISDIR):
            raise StateError(f"{name} is not a regular file. Move it away.") from error
        raise
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise StateError(f"{name} is not a regular file. Move it away.")


def check_own(path: Path) -> None:
    """Raises StateError where this user cannot keep state in the directory `path`; nothing is changed."""
    with translated(path):
        os.close(_open_own_directory(path))


def sync_directory(path: Path) -> None:
    """Afterwards the names in it are on the disk."""
    fd = os.open(path, _DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _open_own_directory(path: Path) -> int:
    if path.is_symlink():
        raise StateError(f"{path} is a symbolic link. Name the directory it leads to as the state directory.")
    fd = os.open(path, _DIRECTORY)
    found = os.fstat(fd)
    if found.st_uid == os.geteuid() and not found.st_mode & stat.S_IWOTH:
        return fd
    os.close(fd)
    if found.st_mode & stat.S_IWOTH:
        raise StateError(f"{path} can be written by everybody. Check what is in it, then chmod o-w.")
    raise StateError(
        f"{path} belongs to uid {found.st_uid}, but this is uid {os.geteuid()}. "
        "Run as its owner, or name another state directory."
    )


def _ensure_directory(parent: int, name: str, mode: int) -> None:
    try:
        os.mkdir(name, mode, dir_fd=parent)
    except FileExistsError:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            raise StateError(f"{name} is not a directory. Move it away.") from None
        return
    os.chmod(name, mode, dir_fd=parent)
    os.fsync(parent)


def _is_own_file(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()


def _write_new(parent: int, name: str, content: bytes, mode: int) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, mode)
        file.write(content)
        file.flush()
        os.fsync(fd)


def _opened(content: bytes, path: Path) -> tuple[dict[str, Json] | None, str | None]:
    """What is in an envelope, or why it cannot be trusted."""
    header = _ENVELOPE.match(content)
    if header is None:
        return None, "it is empty" if not content.strip(b"\0 \n") else "it does not start as a file of ours"
    if int(header[1]) > ENVELOPE:
        raise StateError(f"{path} was written by a newer version (format {int(header[1])}). Use that one, or newer.")
    if int(header[1]) < ENVELOPE:
        return None, "it does not start as a file of ours"
    body = content[header.end() :].removesuffix(b"}\n")
    if sha256(body).hexdigest().encode() != header[2]:
        return None, "its checksum does not match: it was cut off or changed"
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        return None, f"it is not JSON: {error}"
    return (value, None) if isinstance(value, dict) else (None, "it is not a mapping")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Translate the system's errors, once."""
    try:
        yield
    except OSError as error:
        raise StateError(f"{path}: {_advice(error)}") from error


def _is_full(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _advice(error: OSError) -> str:
    """The system's words, and what to do about the common ones."""
    said = error.strerror or str(error)
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return f"{said}. Free some space; it goes on by itself."
        case errno.EROFS:
            wrong = "If it should not be so, the disk may be failing: look at the kernel's log."
            return f"{said}. {wrong} Else choose another --state-dir."
        case errno.EIO:
            return f"{said}. The disk may be failing: look at the kernel's log."
        case errno.ELOOP | errno.ENOTDIR:
            return f"{said}. A link or a file stands where a directory should be: move it away."
        case errno.EACCES | errno.EPERM:
            return f"{said}. Give it back to the user that runs this, or choose another --state-dir."
        case _:
            return f"{said}."
