"""The Proxy port: nginx, seen from beside it.

What it runs is asked of its private listener; who of its workers still serves an older configuration is read from the
process table, from pids noted before each reload: a worker is titled "shutting down" only some 100 ms after new ones
answer. Weights are links to prepared folders of flags, so moving traffic is one rename and needs no free space.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, assert_never

from reconciler.adapters import http_client
from reconciler.core.containers import PROXY_LIVE, PROXY_LOG, PROXY_RUN
from reconciler.core.desired import Mount
from reconciler.core.errors import EffectUnknown, EngineError, ReconcilerError
from reconciler.core.observed import ObservedContainer, ObservedProxy
from reconciler.core.plan import (
    OK,
    Outcome,
    PrepareProxy,
    ReloadProxy,
    Result,
    SetTraffic,
    TestProxyConfig,
)
from reconciler.formats import tester

SOCKET = "proxy.sock"
NOTE = "reload.json"
NOTE_MAX_BYTES = 64 * 1024
ASK_TIMEOUT_S = 1.0
RELOAD_SETTLES_S = 10.0
"""A reload that has brought no new worker by then did not take place: nobody is retiring."""

KEPT_READY = (0, 100)
"""Weights whose links lie ready, since the way back must not need a free byte."""

_HASH = re.compile(r"([0-9a-f]{16,64}) \d+")
_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_LEAVING = "is shutting down"


class Boxes(Protocol):
    """What is needed of the engine beside the Runtime port; all of it may raise EngineError."""

    def main_pid(self, container_id: str) -> int:
        """The main process on the host; 0 when there is none."""
        ...

    def signal(self, container_id: str, name: str) -> None:
        """The main process has been sent a signal."""
        ...

    def processes(self, container_id: str) -> list[tuple[int, int, str]]:
        """Process ID, parent and command line, as the engine sees them."""
        ...

    def execute(self, container_id: str, command: Sequence[str]) -> tuple[int, str] | None:
        """Exit code and output of a command in a running container; None when it does not run."""
        ...

    def run_once(
        self, image_id: str, command: Sequence[str], mounts: Sequence[Mount], tmpfs: Sequence[str], user: str
    ) -> tuple[int, str]:
        """Exit code and output of a command in a container of its own, without network, gone afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker process. `start` (clock ticks since boot, 0 unknown) tells it from a later one with its pid."""

    pid: int
    start: int
    is_leaving: bool


@dataclass(frozen=True, slots=True)
class ReloadNote:
    """Which workers served before the last reload, and when that was (monotonic seconds)."""

    container_id: str
    noted_at_s: float
    workers: frozenset[tuple[int, int]]


def ask_hash(socket: Path) -> str | None:
    """The hash of the configuration that the answering worker runs; None when there is no such answer."""
    try:
        answer = http_client.fetch(http_client.Unix(socket), http_client.Request("/hash"), ASK_TIMEOUT_S)
    except ReconcilerError:
        return None
    found = _HASH.fullmatch(answer.body.decode("ascii", "replace").strip()) if answer.status == 200 else None
    return found[1] if found else None


class NginxProxy:
    """Proxy over the folders that nginx mounts and the processes it has.

    `live_dir` is mounted at /etc/nginx/live, `run_dir` at /run/swiftdeploy; nginx runs as `user` (`uid:gid`).
    `secret` gives a tester's secret by its digest, None where it is not at hand.
    """

    def __init__(
        self,
        *,
        live_dir: Path,
        run_dir: Path,
        boxes: Boxes,
        monotonic: Callable[[], float],
        user: str = "65534:65534",
        ask: Callable[[Path], str | None] = ask_hash,
        proc: Path = Path("/proc"),
        secret: Callable[[str], str | None] = lambda _digest: None,
    ) -> None:
        self._live = live_dir
        self._run = run_dir
        self._flags = live_dir / "flags"
        self._sets = live_dir / "sets"
        self._boxes = boxes
        self._monotonic = monotonic
        self._user = user
        self._ask = ask
        self._proc = proc
        self._secret = secret
        self._testers = live_dir / tester.MAPS
        self._testers_lock = threading.Lock()
        self._leaving_since_s: float | None = None
        self._took_place: tuple[float, float] | None = None  # a reload: when it was noted, and when it first showed

    def observe(self, container: ObservedContainer | None, services: Sequence[str]) -> ObservedProxy:
        """What runs and which weights the flags say. Never raises."""
        weights = {name: weight for name in services if (weight := self._weight(name)) is not None}
        if container is None or not container.is_running:
            return ObservedProxy(weights=weights)
        retiring, for_s = self._retiring(container)
        return ObservedProxy(
            self._ask(self._run / SOCKET),
            retiring,
            for_s,
            weights,
            self._sees_files(container.pid),
            all(self._is_right(name, digest) for name, digest in tester.included(self._config_text()).items()),
        )

    def _sees_files(self, pid: int) -> bool:
        """Whether nginx's mounts are still our folders: one that was removed lives on inside, and nowhere else.

        True where the process cannot be looked into (another user's, another machine's).
        """
        root = self._proc / str(pid) / "root"
        for inside, ours in ((PROXY_LIVE, self._live), (PROXY_RUN, self._run)):
            try:
                seen = os.stat(f"{root}{inside}")
            except OSError:
                continue
            try:
                here = os.stat(ours)
            except OSError:
                return False
            if (seen.st_dev, seen.st_ino) != (here.st_dev, here.st_ino):
                return False
        return True

    def apply(self, action: PrepareProxy | TestProxyConfig | ReloadProxy | SetTraffic) -> Result:
        """Prepare for a start, test a configuration, reload, or move weights. Never raises."""
        try:
            match action:
                case PrepareProxy():
                    self._prepare(action.services)
                    self._place_secrets(action.config)
                case TestProxyConfig():
                    return self._test(action)
                case ReloadProxy():
                    self._reload(action.container_id)
                case SetTraffic():
                    self._set_traffic(action)
                case _:
                    assert_never(action)
        except EffectUnknown as unknown:
            return Result(Outcome.UNKNOWN, str(unknown))
        except ReconcilerError as refused:
            return Result(Outcome.FAILED, str(refused))
        except OSError as error:
            return Result(Outcome.FAILED, f"{error.filename or self._live}: {error.strerror}.")
        return OK

    # ── before a start ─────────────────────────────────────────────────────────────────────────────────────────────

    def _prepare(self, services: Sequence[str]) -> None:
        for folder in (self._live, self._flags, self._sets, self._live / "next"):
            _make_folder(folder, 0o755)
        _make_folder(self._run, 0o755)
        self._give_to_nginx(self._run)
        _clear_stale_socket(self._run / SOCKET)
        for weight in KEPT_READY:
            self._make_set(weight)
        for service in services:
            if self._weight(service) is None:
                self._point(service, 0)
            self._keep_ready(service)

    def _give_to_nginx(self, folder: Path) -> None:
        """Its socket goes there."""
        if (owner := self._owner()) is not None:
            os.chown(folder, *owner)

    def _owner(self) -> tuple[int, int] | None:
        """Whose nginx's files are to be; None without the right to give, since nginx then runs as ourselves."""
        user, _, group = self._user.partition(":")
        if os.geteuid() != 0 or not user.isdigit():
            return None
        return int(user), int(group) if group.isdigit() else -1

    # ── traffic ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _weight(self, service: str) -> int | None:
        """The weight that a service's link says, None where the link or its flags are not what they should be."""
        try:
            folder, _, name = os.readlink(self._flags / service).rpartition("/")
        except OSError:
            return None
        is_one_of_ours = folder == "../sets" and name.isdecimal() and str(int(name)) == name and int(name) <= 100
        return int(name) if is_one_of_ours and self._is_intact(int(name)) else None

    def _is_intact(self, weight: int) -> bool:
        try:
            with os.scandir(self._sets / str(weight)) as entries:
                found = {entry.name for entry in entries if entry.is_file(follow_symlinks=False)}
        except OSError:
            return False
        return found == _buckets(weight)

    def _set_traffic(self, action: SetTraffic) -> None:
        if not 0 <= action.weight_pct <= 100 or not _SERVICE.fullmatch(action.service):
            raise EngineError(f"{action.service} cannot have {action.weight_pct} % of anything.")
        if not self._is_intact(action.weight_pct):
            self._make_set(action.weight_pct)
        self._point(action.service, action.weight_pct)
        with suppress(OSError):
            self._keep_ready(action.service)

    def _make_set(self, weight: int) -> None:
        """The folder for a weight holds exactly its flags; one in use is mended where it stands."""
        folder = self._sets / str(weight)
        _make_folder(folder, 0o755)
        wanted = _buckets(weight)
        present = set()
        for entry in os.scandir(folder):
            if entry.name in wanted and entry.is_file(follow_symlinks=False):
                present.add(entry.name)
            elif entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
        for bucket in sorted(wanted - present):
            self._make_flag(folder / bucket)

    def _make_flag(self, path: Path) -> None:
        """All flags are one empty file under many names, where the file system allows it."""
        flag = self._sets / ".flag"
        with suppress(FileExistsError):
            _make_empty(flag)
        try:
            os.link(flag, path)
        except OSError:
            _make_empty(path)

    def _point(self, service: str, weight: int) -> None:
        """The service's link leads to the flags of `weight`: at once, for every request that starts from now on."""
        ready = self._ready_link(service, weight)
        if not _leads_to(ready, weight):
            ready.unlink(missing_ok=True)
            ready.symlink_to(f"../sets/{weight}")
        ready.replace(self._flags / service)
        _sync_folder(self._flags)

    def _keep_ready(self, service: str) -> None:
        for weight in KEPT_READY:
            ready = self._ready_link(service, weight)
            if not _leads_to(ready, weight):
                ready.unlink(missing_ok=True)
                ready.symlink_to(f"../sets/{weight}")

    def _ready_link(self, service: str, weight: int) -> Path:
        return self._flags / f".{service}.{weight}"

    # ── configuration ──────────────────────────────────────────────────────────────────────────────────────────────

    def _test(self, action: TestProxyConfig) -> Result:
        """nginx itself reads the candidate: the one that runs, else one started for this."""
        candidate = self._live / "next" / "nginx.conf"
        for folder in (self._live, candidate.parent):
            _make_folder(folder, 0o755)
        self._place_secrets(action.content)
        _replace_file(candidate, action.content.encode("utf-8"))
        inside = f"{PROXY_LIVE}/next/nginx.conf"
        command = ("nginx", "-t", "-q", "-c", inside, "-e", "stderr")
        answer = self._boxes.execute(action.container_id, command) if action.container_id is not None else None
        if answer is None:
            mount = Mount("bind", str(self._live), PROXY_LIVE, read_only=True)
            answer = self._boxes.run_once(
                action.image_id, command, (mount,), ("/tmp", PROXY_RUN, PROXY_LOG), self._user
            )
        code, said = answer
        if code != 0:
            return Result(Outcome.FAILED, f"nginx refuses the configuration: {complaint(said, inside)}")
        with suppress(OSError):
            candidate.unlink()
        return OK

    def _reload(self, container_id: str) -> None:
        """Who serves now is noted, durably, before nginx is told: a crash in between forgets nobody."""
        pid = self._boxes.main_pid(container_id)
        if not pid:
            raise EngineError("nginx does not run; there is nothing to reload.", retryable=True)
        self._forget_secrets()
        before = self._note_text()
        serving = [(worker.pid, worker.start) for worker in self._workers(container_id, pid)]
        note = {"container": container_id, "noted_at_s": self._monotonic(), "workers": serving}
        _replace_file(self._run / NOTE, json.dumps(note).encode("ascii"))
        try:
            self._boxes.signal(container_id, "SIGHUP")
        except EffectUnknown:
            raise
        except EngineError:
            _replace_file(self._run / NOTE, before)
            raise

    # ── testers' secrets ───────────────────────────────────────────────────────────────────────────────────────────

    def _place_secrets(self, config: str) -> None:
        """The files that a configuration includes are there, for nginx alone to read.

        Where a secret is not at hand and its file was lost, one that nobody matches stands in: nginx must start.
        """
        wanted = tester.included(config)
        if not wanted:
            return
        with self._testers_lock:
            _make_folder(self._testers, 0o755)
            for name, digest in wanted.items():
                path = self._testers / name
                if not self._is_right(name, digest) or not path.is_file():
                    _replace_file(path, tester.map_text(self._secret(digest)).encode("ascii"), 0o600, self._owner())

    def _is_right(self, name: str, digest: str) -> bool:
        """Whether an included file says what it should; one whose secret is not at hand may say anything."""
        secret = self._secret(digest)
        if secret is None:
            return True
        path = self._testers / name
        try:
            return _read_regular(path) == tester.map_text(secret).encode("ascii") and not path.stat().st_mode & 0o077
        except OSError:
            return False

    def _forget_secrets(self) -> None:
        """Once a configuration is in place, secrets that it does not include are of no use to anybody."""
        config = self._config_text()
        kept = tester.included(config)
        with self._testers_lock, suppress(OSError):
            for entry in list(os.scandir(self._testers)) if config else ():
                if entry.name not in kept:
                    os.unlink(entry.path)

    def _config_text(self) -> str:
        try:
            return (self._live / "nginx.conf").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    # ── workers ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _retiring(self, container: ObservedContainer) -> tuple[int, float]:
        """How many workers of an older configuration still serve, and for how many seconds they have been retiring:
        since we first saw a newer one, and until then since the reload was asked for.
        """
        try:
            workers = self._workers(container.id, container.pid)
        except EngineError:
            workers = []
        note = self._note()
        now = self._monotonic()
        age_s = max(0.0, now - note.noted_at_s)
        noted = note.workers if note.container_id == container.id else frozenset[tuple[int, int]]()
        has_newer = any((worker.pid, worker.start) not in noted for worker in workers)
        counts = has_newer or age_s < RELOAD_SETTLES_S
        old = [worker for worker in workers if counts and (worker.pid, worker.start) in noted]
        leaving = [worker for worker in workers if worker.is_leaving]
        if not has_newer:
            self._took_place = None
        elif self._took_place is None or self._took_place[0] != note.noted_at_s:
            self._took_place = (note.noted_at_s, now)
        retired_s = now - self._took_place[1] if self._took_place is not None else age_s
        return len({*old, *leaving}), retired_s if old else self._leaving_for(bool(leaving))

    def _leaving_for(self, any_leaving: bool) -> float:
        """For workers that somebody else retired: counted from when we first saw it."""
        if not any_leaving:
            self._leaving_since_s = None
            return 0.0
        if self._leaving_since_s is None:
            self._leaving_since_s = self._monotonic()
        return self._monotonic() - self._leaving_since_s

    def _workers(self, container_id: str, pid: int) -> list[Worker]:
        """From this machine's process table, else (the engine is in a virtual machine) from the engine's."""
        if pid and _is_nginx(self._proc, pid):
            return list(_workers_below(self._proc, pid))
        return [
            Worker(found, 0, _LEAVING in words)
            for found, _parent, words in self._boxes.processes(container_id)
            if words.startswith("nginx: worker")
        ]

    def _note_text(self) -> bytes:
        try:
            return _read_regular(self._run / NOTE)
        except OSError:
            return b"{}"

    def _note(self) -> ReloadNote:
        """The last note; one that cannot be read is none."""
        try:
            found = json.loads(self._note_text())
            workers = frozenset((int(pid), int(start)) for pid, start in found["workers"])
            return ReloadNote(str(found["container"]), float(found["noted_at_s"]), workers)
        except (ValueError, KeyError, TypeError):
            return ReloadNote("", 0.0, frozenset())


def complaint(said: str, path: str) -> str:
    """nginx's own words, from all it printed: the first emergency or error, without the noise around it."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    worst = next((line for line in lines if "[emerg]" in line), None)
    line = (
        worst
        or next((line for line in lines if "[error]" in line), None)
        or (lines[-1] if lines else "no reason given")
    )
    words = re.sub(r"^.*?\[(?:emerg|error)\]\s*(?:\d+#\d+:\s*)?", "", line)
    return words.replace(path, "nginx.conf")[:500]


# ── processes ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    start: int
    title: str


def _process(proc: Path, pid: int) -> _Process | None:
    """A process that lives; a zombie has no title and serves nobody."""
    try:
        fields = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        title = (proc / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        return _Process(pid, int(fields[1]), int(fields[19]), title)
    except (OSError, ValueError, IndexError):
        return None


def _children(proc: Path, pid: int) -> list[_Process]:
    try:
        listed = (proc / str(pid) / "task" / str(pid) / "children").read_text(encoding="ascii").split()
        candidates: Iterator[int] = iter(map(int, listed))
    except OSError:
        candidates = (int(folder.name) for folder in proc.glob("[0-9]*"))
    found = (_process(proc, candidate) for candidate in candidates)
    return [process for process in found if process is not None and process.parent == pid]


def _is_nginx(proc: Path, pid: int) -> bool:
    """Whether `pid` of this machine's table is an nginx master, or an init with one below it."""
    return _master(proc, pid) is not None


def _master(proc: Path, pid: int) -> int | None:
    main = _process(proc, pid)
    if main is None:
        return None
    if main.title.startswith("nginx:"):
        return pid
    below = (child.pid for child in _children(proc, pid) if child.title.startswith("nginx: master"))
    return next(below, None)


def _workers_below(proc: Path, pid: int) -> Iterator[Worker]:
    master = _master(proc, pid)
    for child in _children(proc, master) if master is not None else []:
        if child.title.startswith("nginx: worker"):
            yield Worker(child.pid, child.start, _LEAVING in child.title)


# ── files ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _buckets(weight: int) -> set[str]:
    """The buckets, of 0 to 99, that a weight takes: bucket 0 is in every share there is."""
    return {str(bucket) for bucket in range(weight)}


def _leads_to(link: Path, weight: int) -> bool:
    try:
        return os.readlink(link) == f"../sets/{weight}"
    except OSError:
        return False


def _make_folder(folder: Path, mode: int) -> None:
    """There, and open to nginx's user whatever our umask says."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        if stat.S_IMODE(folder.stat().st_mode) == mode:
            return
    folder.chmod(mode)


def _make_empty(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))


def _replace_file(path: Path, content: bytes, mode: int = 0o644, owner: tuple[int, int] | None = None) -> None:
    """Whole or not at all, and durable."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as target:
        os.fchmod(target.fileno(), mode)
        if owner is not None:
            os.fchown(target.fileno(), *owner)
        target.write(content)
        target.flush()
        os.fsync(target.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def _read_regular(path: Path) -> bytes:
    """A file in a folder that nginx can write to: were it a link or a pipe, reading it could leak or never end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as source:
        return source.read(NOTE_MAX_BYTES) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b"{}"


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _clear_stale_socket(path: Path) -> None:
    """A killed nginx leaves its socket, and the next one cannot bind it. One that answers is left alone."""
    if not path.is_symlink() and path.is_socket():
        try:
            http_client.can_connect(http_client.Unix(path), ASK_TIMEOUT_S)
        except http_client.HttpError as error:
            if error.failure is http_client.Failure.REFUSED:
                path.unlink(missing_ok=True)
