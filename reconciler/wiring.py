"""The only place that knows which adapter is which."""

from __future__ import annotations

import functools
import hashlib
import os
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler import __version__
from reconciler.adapters import clock
from reconciler.adapters.file_source import FileSource
from reconciler.adapters.host_allow import HostAllowFile
from reconciler.adapters.reading_guard import ReadingGuard
from reconciler.adapters.state_dir import StateDir
from reconciler.core.containers import Layout
from reconciler.core.errors import EngineError, ManifestError, Problem
from reconciler.formats.daemon_config import NO_CONFIG, DaemonConfig
from reconciler.formats.mounts import ALLOW_FILE
from reconciler.operations.desk import Operations, Place

if TYPE_CHECKING:
    from reconciler.adapters.docker_engine import DockerEngine
    from reconciler.adapters.git_source import GitSource
    from reconciler.adapters.history_file import HistoryFile
    from reconciler.adapters.local_images import LocalImages
    from reconciler.adapters.metrics import CountedTwice
    from reconciler.adapters.nginx_proxy import NginxProxy
    from reconciler.adapters.opa import OpaPolicy
    from reconciler.core.desired import DesiredState
    from reconciler.core.record import Cycle
    from reconciler.loop import Loop
    from reconciler.ports import Ports

AT_ONCE = 8
"""How many actions of a plan run side by side."""


READERS_KEPT = 8
"""Readers of commits before the one in force that are still asked what they know: a rollout may be of theirs."""


@dataclass(frozen=True, slots=True)
class Followed:
    """Where the manifest comes from: a file, or the repository that holds it.

    `readers` know the secrets and paths that manifests name, the one in force last. `shown` is told to people.
    """

    source: FileSource | GitSource
    readers: deque[FileSource]
    shown: str

    @property
    def repository(self) -> GitSource | None:
        """The repository, where it is one."""
        return None if isinstance(self.source, FileSource) else self.source

    def tester_secret(self, digest: str) -> str | None:
        """As FileSource's, of whichever reader knows it."""
        found = (reader.tester_secret(digest) for reader in reversed(self.readers))
        return next((secret for secret in found if secret is not None), None)

    def mount_trouble(self, path: str) -> str:
        """As FileSource's, of the reader of the manifest in force."""
        reader = self.source if self.repository is None else self.repository.reader
        return reader.mount_trouble(path) if isinstance(reader, FileSource) else ""


def source_of(
    manifest: Path,
    allow: Path = Path(ALLOW_FILE),
    home: Path | None = None,
    name: str = "",
    guard: ReadingGuard | None = None,
) -> FileSource:
    """The manifest, and what the host's own file `allow` permits it. `home`, `name` and `guard` are FileSource's."""
    return FileSource(manifest, clock.SystemClock(), HostAllowFile(allow), home, name, guard)


@contextmanager
def followed(
    config: DaemonConfig, manifest: Path, state_dir: Path, wake: Callable[[str], None] = lambda _words: None
) -> Iterator[Followed]:
    """The file `manifest`, or the repository that `config` names; `wake` is told in words of a new commit.

    Raises StateError and ManifestError where the repository cannot be followed at all.
    """
    home = Path(config.folder) if config.folder else None
    readers: deque[FileSource] = deque(maxlen=READERS_KEPT)
    guard = ReadingGuard(state_dir / "run" / "reading")
    if config.git is None:
        readers.append(source_of(manifest, home=home, guard=guard))
        yield Followed(readers[0], readers, str(manifest))
        return
    from reconciler.adapters.git_source import GitSource

    def read(path: Path) -> FileSource:
        readers.append(source_of(path, home=home or state_dir.parent, name=name, guard=guard))
        return readers[-1]

    git = config.git
    name = git.url.rstrip("/").removesuffix(".git")
    try:
        source = GitSource(git, state_dir, clock.SystemClock(), read, wake)
    except ValueError as error:
        raise ManifestError([Problem("configuration", 0, 0, str(error))]) from error
    try:
        yield Followed(source, readers, f"{source.status().url} {git.ref} {git.path}")
    finally:
        source.stop()


@contextmanager
def local_operations(manifest: Path, state_dir: Path, config_file: Path | None = None) -> Iterator[Operations]:
    """Operations in this process. The lock is taken, and the engine looked for, only by what needs them.

    What the daemon's file says of a source counts where it is about this state directory. Raises ManifestError.
    """
    config = _config_of(config_file, state_dir) if config_file is not None else NO_CONFIG
    with ExitStack() as stack:
        source = stack.enter_context(followed(config, manifest, state_dir))
        opened: list[Loop] = []

        def open_loop(acts: bool) -> Loop:
            if not opened:
                state = stack.enter_context(StateDir(state_dir))
                if acts:
                    stack.enter_context(state.lock("swiftdeploy", clock.SystemClock().timestamp()))
                kept = config.history_keep_bytes
                loop = loop_of(state_dir, source, state, finished=lambda _cycle: None, keep_bytes=kept)
                opened.append(stack.enter_context(loop))
            return opened[0]

        yield operations(Place(manifest, state_dir), source, open_loop)


def _config_of(file: Path, state_dir: Path) -> DaemonConfig:
    from reconciler.adapters.config_file import read_config

    reading = read_config(file, required=True)
    if reading.config is None:
        raise ManifestError(reading.problems)
    is_its = reading.config.state_dir is not None and Path(reading.config.state_dir) == state_dir
    return reading.config if is_its else NO_CONFIG


def operations(place: Place, source: Followed, open_loop: Callable[[bool], Loop]) -> Operations:
    """The desk over a loop."""
    place = replace(place, shown=source.shown)
    return Operations(place, source.source, open_loop, _replace_file, _send, source.repository)


@contextmanager
def loop_of(
    state_dir: Path,
    source: Followed,
    state: StateDir,
    finished: Callable[[Cycle], None],
    *,
    keep_bytes: int | None = None,
) -> Iterator[Loop]:
    """A loop over the real Docker Engine, nginx and OPA; the caller holds the lock of `state`.

    `keep_bytes` is what the history's finished segments may take on disk, None for as much as they like.
    """
    from reconciler.core.record import Trigger
    from reconciler.cycle import Memory, Setting
    from reconciler.loop import Loop

    box: list[Loop] = []

    def wake(words: str) -> None:
        if box:
            box[0].wake(Trigger("engine", words))

    def in_force() -> DesiredState | None:
        return box[0].memory.last_good if box else None

    with ExitStack() as stack:
        ports = stack.enter_context(ports_of(state_dir, source, state, wake, in_force, keep_bytes=keep_bytes))
        pool = stack.enter_context(ThreadPoolExecutor(AT_ONCE, thread_name_prefix="act"))
        setting = Setting(Layout(str(state_dir / "rendered"), str(state_dir / "run"), container_user()), pool)
        store = ports.rollouts
        good = store.last_good()
        memory = Memory(rollout=store.load(), last_good=good, evidence=store.evidence(), commit=store.commit_of(good))
        box.append(Loop(ports, setting, memory, finished))
        yield box[0]


@contextmanager
def ports_of(
    state_dir: Path,
    source: Followed,
    state: StateDir,
    wake: Callable[[str], None],
    in_force: Callable[[], DesiredState | None],
    *,
    keep_bytes: int | None = None,
) -> Iterator[Ports]:
    """Every real adapter; afterwards all that was opened is closed.

    `wake` is told in words that the engine changed something; `in_force` is the manifest in force, None before there
    is one: the limits that adapters work with are read from it at every use. `keep_bytes` is as for `loop_of`.
    """
    from reconciler.adapters.host import LocalHost
    from reconciler.adapters.probe_traffic import ProbeTraffic
    from reconciler.adapters.prober import AddressProber
    from reconciler.adapters.rendered_files import RenderedFiles
    from reconciler.adapters.rollout_store import RolloutFiles
    from reconciler.ports import Ports

    rendered, run = state_dir / "rendered", state_dir / "run"
    instance = state.instance_id(lambda: _instance(state_dir))
    with (
        closing(_history(state_dir, keep_bytes)) as history,
        closing(_engine(instance, source, wake)) as engine,
        closing(_metrics(in_force)) as metrics,
        closing(ProbeTraffic(run / "nginx" / "proxy.sock")) as probes,
    ):
        yield Ports(
            source=source.source,
            runtime=engine,
            prober=AddressProber(),
            proxy=_proxy(rendered, run, source, engine),
            files=RenderedFiles(rendered),
            policy=_policy(run, in_force),
            host=LocalHost(_data_root(engine)),
            rollouts=RolloutFiles(state),
            history=history,
            clock=clock.SystemClock(),
            metrics=metrics,
            probes=probes,
            instance=instance,
        )


def _history(state_dir: Path, keep_bytes: int | None) -> HistoryFile:
    from reconciler.adapters.history_checkpoints import Checkpoints
    from reconciler.adapters.history_file import HistoryFile
    from reconciler.adapters.history_key import HistoryKey, given_key

    key = HistoryKey(state_dir, given_key(os.environ))
    return HistoryFile(
        state_dir,
        state_dir.parent.name,
        __version__,
        lambda: secrets.token_hex(16),
        checkpoints=Checkpoints(key.sign, clock.monotonic),
        packs=True,
        keep_bytes=keep_bytes,
    )


def _engine(instance: str, source: Followed, wake: Callable[[str], None]) -> DockerEngine:
    from reconciler.adapters.docker_engine import DockerEngine

    return DockerEngine(
        instance=instance,
        monotonic=clock.monotonic,
        images=_Builds(),
        wake=wake,
        mount_trouble=source.mount_trouble,
    )


def _proxy(rendered: Path, run: Path, source: Followed, engine: DockerEngine) -> NginxProxy:
    from reconciler.adapters.nginx_proxy import NginxProxy

    return NginxProxy(
        live_dir=rendered / "nginx" / "live",
        run_dir=run / "nginx",
        boxes=engine.boxes,
        monotonic=clock.monotonic,
        user=container_user(),
        secret=source.tester_secret,
    )


def _policy(run: Path, in_force: Callable[[], DesiredState | None]) -> OpaPolicy:
    from reconciler.adapters.opa import OpaPolicy, ensure_token, socket_path

    def patience_s() -> float:
        return desired.opa.decision_timeout_s if (desired := in_force()) else 5.0

    return OpaPolicy(lambda revision: socket_path(run, revision), lambda: ensure_token(run), patience_s)


def _metrics(in_force: Callable[[], DesiredState | None]) -> CountedTwice:
    from reconciler.adapters.app_metrics import AppMetrics
    from reconciler.adapters.ingress_metrics import IngressMetrics
    from reconciler.adapters.metrics import CountedTwice
    from reconciler.adapters.prometheus import PrometheusMetrics

    def latency_limit_s() -> float | None:
        desired = in_force()
        limit = desired.limits.get("canary", {}).get("max_p99_latency_ms") if desired else None
        return limit / 1000 if isinstance(limit, int | float) else None

    return CountedTwice(AppMetrics(), IngressMetrics(latency_limit_s=latency_limit_s), PrometheusMetrics())


def container_user() -> str:
    """Who nginx and OPA run as: ourselves, so that their sockets are ours to open; nobody where we are root."""
    return f"{os.geteuid()}:{os.getegid()}" if os.geteuid() else "65534:65534"


def _instance(state_dir: Path) -> str:
    """An ID that a lost state directory gets again at the same place of the same machine, and no other place."""
    try:
        machine = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        machine = os.uname().nodename
    return hashlib.sha256(f"{machine}\0{state_dir.resolve()}".encode()).hexdigest()[:16]


def _replace_file(path: Path, data: bytes) -> None:
    """Put `data` at `path` at once, with the mode and owner it had."""
    before = os.stat(path, follow_symlinks=False)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, before.st_mode & 0o7777)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if os.geteuid() == 0:
            os.chown(temporary, before.st_uid, before.st_gid)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _send(address: str, port: int, method: str, path: str, body: bytes) -> tuple[int, Mapping[str, str], bytes] | None:
    """What a container at `address` answers; None when it does not."""
    from reconciler.adapters.http_client import HttpError, Request, Tcp, fetch

    headers = (("Content-Type", "application/json"),) if body else ()
    try:
        answer = fetch(Tcp(address, port), Request(path, method, "localhost", headers, body), 5.0)
    except HttpError:
        return None
    return answer.status, dict(answer.headers), answer.body


def _data_root(engine: DockerEngine) -> str:
    """Where the engine keeps its images: what fills up first."""
    try:
        return engine.engine_info().data_root
    except EngineError:
        return "/var/lib/docker"


class _Builds:
    """Local builds of images that no registry gives, over an engine connection of their own."""

    def substitute_for(self, reference: str) -> str | None:
        return self._images().substitute_for(reference)

    def build(self, reference: str) -> None:
        self._images().build(reference)

    @functools.cache  # noqa: B019 - one instance lives as long as the process
    def _images(self) -> LocalImages:
        from reconciler.adapters.engine_connection import connect_to, default_address
        from reconciler.adapters.local_images import LocalImages, cache_directory

        return LocalImages(connect_to(default_address(None), "auto", 600.0), cache_directory(os.environ, Path.home()))
