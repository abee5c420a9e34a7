"""A manifest in a plain file: read only when nobody is in the middle of writing it.

Three quarters of all prefixes of a valid manifest are valid YAML, so a half-written file must not be believed.
A file renamed into place is whole; any other must look the same twice, `SETTLE_S` apart.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from reconciler.adapters.host_allow import HostAllowFile
from reconciler.adapters.host_paths import link_below
from reconciler.adapters.reading_guard import MOST, ReadingGuard
from reconciler.core.desired import DesiredState
from reconciler.core.errors import ManifestError, Problem
from reconciler.formats import manifest, tester
from reconciler.formats.mounts import HostAllow, nearest, plain, through_link
from reconciler.ports import Clock, Loaded

SETTLE_S = 0.3
OLD_S = 2.0
"""A file whose last change is older than this is nobody's work in progress."""
MAX_BYTES = 1024 * 1024
MAX_POLICIES = 100
MAX_SECRETS = 256
"""How many testers' secrets are remembered, those of earlier readings among them."""


_Identity: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Look:
    """What a file, or several, were like at one moment (monotonic seconds)."""

    identity: tuple[_Identity, ...]
    at: float


@dataclass(frozen=True, slots=True)
class _Reading:
    """A reading, and the digest of all it was made from."""

    inputs: bytes
    env_files: tuple[str, ...]
    secrets: tuple[str, ...]
    binds: tuple[tuple[str, str], ...]
    loaded: Loaded


class FileSource:
    """The Source port over one file, the policies and secrets folders beside it, its env files, and `allow`.

    Without `allow` no path of the host is permitted. `home` is where relative mounts and the secrets folder are on
    this host; None is the manifest's folder. `name` is the project's where the manifest names none;
    "" is that folder's. With `guard` a content whose reading has ended the process too often is not read again.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        allow: HostAllowFile | None = None,
        home: Path | None = None,
        name: str = "",
        guard: ReadingGuard | None = None,
    ) -> None:
        self._home, self._name, self._guard = home, name, guard
        self._path = path
        self._clock = clock
        self._allow = allow
        self._renamed: int | None = None
        self._look: _Look | None = None
        self._look_beside: _Look | None = None
        self._beside: dict[Path, os.stat_result] = {}
        self._last: _Reading | None = None
        self._secrets: dict[str, str] = {}

    @property
    def path(self) -> Path:
        """The manifest's path as given."""
        return self._path

    def renamed_into_place(self) -> None:
        """A hint from the watcher: whatever is there now came whole."""
        try:
            self._renamed = os.stat(self._path).st_ino
        except OSError:
            self._renamed = None

    def load(self) -> Loaded:
        """The manifest as it is now. `settled` is false while it may still be written."""
        try:
            data, status = _read(self._path)
        except OSError as error:
            return self._unreadable(_why(error, self._path))
        self._beside = {}
        loaded = self._parsed(data)
        is_settled = self._is_settled(status)
        return replace(loaded, settled=self._is_settled_beside() and is_settled)

    def _is_settled(self, status: os.stat_result) -> bool:
        now, identity = self._clock.monotonic(), (_identity(status),)
        if self._look is None or self._look.identity != identity:
            self._look = _Look(identity, now)
        if status.st_ino == self._renamed and self._look.at == now:
            self._look = _Look(identity, now - 2 * SETTLE_S)
        self._renamed = None
        return now - self._look.at >= SETTLE_S or self._clock.now() - status.st_mtime > OLD_S

    def _is_settled_beside(self) -> bool:
        """Nobody is writing what else is read: half a policy or permission may allow what the whole forbids."""
        now, identity = self._clock.monotonic(), tuple(_identity(self._beside[path]) for path in sorted(self._beside))
        if self._look_beside is None or self._look_beside.identity != identity:
            self._look_beside = _Look(identity, now)
        newest = max((status.st_mtime for status in self._beside.values()), default=0.0)
        return now - self._look_beside.at >= SETTLE_S or self._clock.now() - newest > OLD_S

    def _parsed(self, data: bytes) -> Loaded:
        """What the bytes say; the last reading where neither they nor anything they are judged by changed."""
        permitted = self._permitted()
        folder = self._policies_dir()
        policies, troubles = self._policies(folder)
        if (
            self._last is not None
            and not troubles
            and self._last.inputs == self._inputs(data, permitted, policies, self._last)
        ):
            return self._last.loaded
        if self._guard is not None and (deaths := self._guard.deaths(data)) >= MOST:
            return self._unreadable(
                f"reading it has ended the daemon {deaths} times, so it is set aside. What was in force stays so. "
                "Mend it; any change to it is read again"
            )
        with self._guard.reading(data) if self._guard is not None else nullcontext():
            reading = self._read_with(data, permitted)
        self._remember_secrets(reading.desired)
        if reading.desired and reading.desired.opa.policies_dir != folder:
            policies, troubles = self._policies(reading.desired.opa.policies_dir)
        desired = replace(reading.desired, user_policies=policies) if reading.desired and not troubles else None
        is_yaml = desired is not None or _is_yaml(data, self._path.name)
        loaded = Loaded(reading.digest, desired, (*reading.problems, *troubles), reading.warnings, parsed=is_yaml)
        if not troubles:
            inputs = self._inputs(data, permitted, policies, reading)
            self._last = _Reading(inputs, reading.env_files, reading.secrets, reading.binds, loaded)
        return loaded

    def _read_with(self, data: bytes, permitted: HostAllow) -> manifest.Reading:
        return manifest.read(
            data,
            file=self._path.name,
            folder=self._folder(),
            name=self._name,
            env_files=self._env_file,
            allow=permitted,
            processors=os.cpu_count(),
            secrets=self._secret,
            link_below=link_below,
        )

    def _permitted(self) -> HostAllow:
        if self._allow is None:
            return HostAllow()
        permitted, status = self._allow.read()
        if status is not None:
            self._beside[self._allow.path] = status
        return permitted

    def _inputs(
        self,
        data: bytes,
        permitted: HostAllow,
        policies: tuple[tuple[str, str], ...],
        reading: manifest.Reading | _Reading,
    ) -> bytes:
        paths = sorted((project, sorted(paths)) for project, paths in permitted.paths.items())
        named = [(name, self._env_file(name)) for name in reading.env_files]
        hidden = [(name, found.text, found.trouble) for name in reading.secrets for found in [self._secret(name)]]
        links = [link_below(path, base) for path, base in reading.binds]
        beside = (paths, permitted.trouble, policies, named, hidden, links)
        return hashlib.sha256(data + repr(beside).encode()).digest()

    def _folder(self) -> str:
        """Where relative mounts begin."""
        return str(self._home.resolve() if self._home else self._path.resolve().parent)

    def mount_trouble(self, source: str) -> str:
        """Why a service must not be given what is at this path of the host now; "" where nothing speaks against it."""
        desired = self._last.loaded.desired if self._last else None
        permitted = self._allow.read()[0] if self._allow else HostAllow()
        allowed = permitted.of(desired.project) if desired else frozenset().union(*permitted.paths.values())
        trusted = nearest(source, {self._folder(), *plain(allowed)})
        link = link_below(source, trusted) if trusted else None
        return f"{source} {through_link(link)}." if link else ""

    def _policies(self, name: str) -> tuple[tuple[tuple[str, str], ...], tuple[Problem, ...]]:
        """The operator's own `*.rego`, sorted by name; an absent folder is an empty one."""
        folder = self._path.parent / name
        try:
            names = sorted(entry.name for entry in os.scandir(folder) if entry.name.endswith(".rego"))
        except (FileNotFoundError, NotADirectoryError):
            return (), ()
        except OSError as error:
            return (), (Problem(str(folder), 0, 0, _why(error, folder)),)
        if len(names) > MAX_POLICIES:
            return (), (Problem(str(folder), 0, 0, f"holds {len(names)} policies; at most {MAX_POLICIES} are read"),)
        found, troubles = [], []
        for name in names:
            try:
                found.append((name, self._text(folder / name)))
            except (OSError, UnicodeDecodeError) as error:
                troubles.append(Problem(str(folder / name), 0, 0, _why(error, folder / name)))
        return tuple(found), tuple(troubles)

    def _policies_dir(self) -> str:
        desired = self._last.loaded.desired if self._last else None
        return desired.opa.policies_dir if desired else "policies"

    def _env_file(self, name: str) -> str | None:
        """Text of an env file below the manifest's folder, None where it cannot be read."""
        folder = self._path.parent.resolve()
        path = (folder / name).resolve()
        if not path.is_relative_to(folder) or path == folder:
            return None
        try:
            return self._text(path, below=folder)
        except (OSError, UnicodeDecodeError):
            return None

    def tester_secret(self, digest: str) -> str | None:
        """The secret that a digest in a manifest stands for, as it was last read; None where it is not known."""
        return self._secrets.get(digest)

    def _remember_secrets(self, desired: DesiredState | None) -> None:
        for service in desired.services if desired else ():
            if service.tester_digest is None or service.tester_secret is None:
                continue
            secret = tester.secret_of(self._secret(service.tester_secret.removeprefix("file:")).text)
            if tester.digest(service.name, secret) == service.tester_digest:
                self._secrets[service.tester_digest] = secret
        while len(self._secrets) > MAX_SECRETS:
            self._secrets.pop(next(iter(self._secrets)))

    def _secret(self, name: str) -> tester.SecretFile:
        """A file in the secrets folder that only its owner may read."""
        path = (self._home or self._path.parent) / tester.FOLDER / name
        try:
            text = self._text(path)
        except (FileNotFoundError, NotADirectoryError):
            return tester.SecretFile(trouble="is not there")
        except PermissionError:
            return tester.SecretFile(trouble="may not be read by this user")
        except (OSError, UnicodeDecodeError) as error:
            is_link = isinstance(error, OSError) and error.errno == errno.ELOOP
            return tester.SecretFile(trouble="is a symbolic link" if is_link else "is not a small file of text")
        mode = stat.S_IMODE(self._beside[path].st_mode)
        if mode & 0o077:
            return tester.SecretFile(
                trouble=f"is open to others (mode {mode:04o})", remedy=f"chmod 600 {tester.FOLDER}/{name}"
            )
        return tester.SecretFile(text)

    def _text(self, path: Path, below: Path | None = None) -> str:
        """A whole file beside the manifest; OSError or UnicodeDecodeError otherwise. `below` as for `_read`."""
        data, self._beside[path] = _read(path, below)
        if len(data) > MAX_BYTES:
            raise OSError(0, f"is larger than {MAX_BYTES} bytes")
        return data.decode("utf-8")

    def _unreadable(self, message: str) -> Loaded:
        digest = hashlib.sha256(message.encode()).hexdigest()
        return Loaded(digest, problems=(Problem(str(self._path), 0, 0, message),), parsed=False)


def _identity(status: os.stat_result) -> _Identity:
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _read(path: Path, below: Path | None = None) -> tuple[bytes, os.stat_result]:
    """At most MAX_BYTES + 1 bytes of a regular file that is no link; OSError otherwise.

    With `below` none of the folders from there on may be a link either: one of them could have become one since the
    path was found to lead nowhere else.
    """
    descriptor = _opened(path, below)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "is not a regular file")
        data = b""
        while len(data) <= MAX_BYTES and (more := os.read(descriptor, MAX_BYTES + 1 - len(data))):
            data += more
        return data, status
    finally:
        os.close(descriptor)


def _opened(path: Path, below: Path | None) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    if below is None:
        return os.open(path, flags)
    *folders, name = path.relative_to(below).parts
    here = os.open(below, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            os.close(here)
            here = inner
        return os.open(name, flags, dir_fd=here)
    finally:
        os.close(here)


def _is_yaml(data: bytes, file: str) -> bool:
    try:
        manifest.parse(data, file)
    except ManifestError:
        return False
    return True


def _why(error: Exception, path: Path) -> str:
    match error:
        case FileNotFoundError():
            return f"there is no {path.name} here. Write one (six keys, see docs/manifest.md), or name it with --file"
        case PermissionError():
            return f"may not be read by this user; `chmod +r {path.name}` or run as its owner"
        case UnicodeDecodeError():
            return "is not UTF-8"
        case OSError(errno=40):
            return "is a symbolic link; the manifest must be a file of its own (its folder may be a link)"
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"
