"""P: links, pipes, devices and other people's files where ours should be.

The tripwire is a file outside that must stay as it is, and must not be read into anything of ours.
"""

from __future__ import annotations

import os
import resource
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from reconciler.adapters import opa
from reconciler.adapters.file_source import FileSource
from reconciler.adapters.history_file import HistoryFile, HistoryReader
from reconciler.adapters.rendered_files import RenderedFiles
from reconciler.adapters.state_dir import StateDir
from reconciler.control import _listen
from reconciler.core.errors import ReconcilerError
from reconciler.core.plan import Outcome, RemoveFile, WriteFile
from tests.cycle.cycle_world import HandClock
from tests.security.cases import Attack

SECRET = "s3cr3t-tripwire-7f3a"
MANIFEST = (
    "services: {{image: 'demo:1', port: 3000{more}}}\nnginx: {{image: 'nginx:1.30', port: 8080}}\n"
    "network: {{name: web, driver_type: bridge}}\n"
)
HANGS_S = 10
ROOM_BYTES = 512 * 2**20


@contextmanager
def bounded() -> Iterator[None]:
    """Fails what waits for ever, as at a pipe that nobody writes to, and what takes all memory, as of /dev/zero."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"waited for more than {HANGS_S} s")

    old = signal.signal(signal.SIGALRM, ring)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_taken_bytes() + ROOM_BYTES, limits[1]))
    signal.alarm(HANGS_S)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGALRM, old)


def _taken_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


# ── what is planted ────────────────────────────────────────────────────────────────────────────────────────────────


def _symlink(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def _dangling(path: Path, outside: Path) -> None:
    path.symlink_to(outside.parent / "not-there-yet")


def _device(path: Path, _outside: Path) -> None:
    path.symlink_to("/dev/zero")


def _pipe(path: Path, _outside: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path, _outside: Path) -> None:
    path.mkdir()


def _socket(path: Path, _outside: Path) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o600)


def _open_to_all(path: Path, _outside: Path) -> None:
    path.write_text("x\n")
    path.chmod(0o666)


def _foreign(path: Path, _outside: Path) -> None:
    path.write_text("x\n")
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345)
    else:
        path.chmod(0o666)


PLANTED: dict[str, Callable[[Path, Path], None]] = {
    "a link": _symlink,
    "a dangling link": _dangling,
    "a link to a device": _device,
    "a pipe": _pipe,
    "a folder": _folder,
    "a socket": _socket,
    "a file that all may write": _open_to_all,
    "another's file": _foreign,
}

# ── what we do there ───────────────────────────────────────────────────────────────────────────────────────────────


def _opened(state: Path, do: Callable[[StateDir], object]) -> object:
    with StateDir(state) as opened:
        return do(opened)


def _instance(state: Path) -> object:
    return _opened(state, lambda opened: opened.instance_id(lambda: "a" * 16))


def _save(state: Path) -> object:
    return _opened(state, lambda opened: opened.save_json("rollout.json", {"a": 1}))


def _load(state: Path) -> object:
    return _opened(state, lambda opened: opened.load_json("rollout.json").value)


def _lock(state: Path) -> object:
    return _opened(state, lambda opened: opened.lock().release())


def _append(state: Path) -> object:
    with StateDir(state):
        log = HistoryFile(state, "shop", "0", lambda: "a" * 32)
        try:
            log.append({"kind": "cycle", "timestamp": "2026-01-01T00:00:00Z"})
            return log.append({"kind": "cycle", "timestamp": "2026-01-01T00:00:01Z"})
        finally:
            log.close()


def _tail(state: Path) -> object:
    return HistoryReader(state).tail(5)


def _token(state: Path) -> object:
    token = opa.ensure_token(state / "run")
    assert SECRET not in token
    return token


def _write(state: Path) -> object:
    result = RenderedFiles(state / "rendered").apply(WriteFile("docker-compose.yml", "a: 1\n"))
    if result.outcome is not Outcome.OK:
        raise ReconcilerError(result.detail)
    return result.outcome


def _erase(state: Path) -> object:
    result = RenderedFiles(state / "rendered").apply(RemoveFile("docker-compose.yml"))
    if result.outcome is not Outcome.OK:
        raise ReconcilerError(result.detail)
    return result.outcome


def _digests(state: Path) -> object:
    return RenderedFiles(state / "rendered").digests()


def _control(state: Path) -> object:
    _listen(state / "run/control.sock", None).close()
    return "listening"


def _loaded(state: Path, more: str = "") -> object:
    path = state / "manifest.yaml"
    if more or not os.path.lexists(path):
        path.write_text(MANIFEST.format(more=more))
    loaded = FileSource(path, HandClock()).load()
    if loaded.desired is None:
        raise ReconcilerError("; ".join(map(str, loaded.problems)))
    return loaded.desired


def _manifest(state: Path) -> object:
    return _loaded(state)


def _env_file(state: Path) -> object:
    return _loaded(state, ", env_file: a.env")


def _tester(state: Path) -> object:
    return _loaded(state, ", tester_secret: 'file:testers'")


def _policy(state: Path) -> object:
    return _loaded(state, ", version: '2'")


REFUSED, TAKEN = "refused", "taken"
NO_FILES = frozenset({"a link", "a dangling link", "a link to a device", "a pipe", "a socket"})
OTHERS = frozenset({"a file that all may write", "another's file"})
# where, what we do there, and what is planted that does not stop it: replaced, or not looked at. All else is refused.
WHERE: tuple[tuple[str, Callable[[Path], object], frozenset[str]], ...] = (
    ("instance", _instance, frozenset()),
    ("rollout.json to write", _save, NO_FILES | OTHERS),
    ("rollout.json to read", _load, frozenset()),
    ("run/lock", _lock, frozenset()),
    ("history.jsonl to write", _append, frozenset()),
    ("history.jsonl to read", _tail, OTHERS),
    ("run/opa-token", _token, frozenset()),
    ("rendered/docker-compose.yml to write", _write, OTHERS),
    ("rendered/docker-compose.yml to remove", _erase, OTHERS),
    ("rendered/docker-compose.yml to compare", _digests, NO_FILES | OTHERS | {"a folder"}),
    ("run/control.sock", _control, frozenset({"a socket"})),
    ("manifest.yaml", _manifest, frozenset()),
    ("a.env", _env_file, frozenset()),
    ("secrets/testers", _tester, frozenset()),
    ("policies/mine.rego", _policy, OTHERS),
)


@dataclass(frozen=True)
class Planted(Attack):
    """`what` stands where `where` should be, while `act` is done."""

    what: str
    where: str
    act: Callable[[Path], object]
    must: str

    def attempt(self, folder: Path) -> None:
        outside = folder / "outside"
        outside.write_text(SECRET)
        outside.chmod(0o600)
        state = folder / "state"
        with StateDir(state):
            pass
        place = state / self.where.split(" ")[0]
        place.parent.mkdir(exist_ok=True)
        PLANTED[self.what](place, outside)
        with bounded():
            became, told = self._become(state)
        assert outside.read_text() == SECRET, "a file outside was written"
        assert not (folder / "not-there-yet").exists(), "a file outside was made"
        assert SECRET not in told, "what is in a file outside was told"
        assert became == self.must, told
        self._search(state, place)

    def _become(self, state: Path) -> tuple[str, str]:
        try:
            return TAKEN, str(self.act(state))
        except ReconcilerError as error:
            return REFUSED, str(error)

    def _search(self, state: Path, planted: Path) -> None:
        """Nothing of ours holds what only the file outside does."""
        for path in state.rglob("*"):
            if path != planted and path.is_file() and not path.is_symlink():
                with suppress(OSError):
                    assert SECRET.encode() not in path.read_bytes(), f"{path} holds a file outside"


CASES = tuple(
    Planted("P1", f"{what} at {where}", what, where, act, TAKEN if what in taken else REFUSED)
    for where, act, taken in WHERE
    for what in PLANTED
)
