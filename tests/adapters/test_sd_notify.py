"""The real daemon and a service manager of ours: a datagram socket, as systemd gives one. Needs no engine."""

from __future__ import annotations

import itertools
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog

from reconciler.adapters.sd_notify import Notifier, taken_from

LIMIT_S = 60.0
WATCHDOG_S = 2.0
HANG_S = 4.0
"""Less than the 5 s that a daemon without an engine rests, more than its first cycle takes on a busy machine."""
MANIFEST = """\
services: {image: "swift-deploy-1-node:latest", port: 3000}
nginx: {image: "nginx:latest", port: 18080}
network: {name: notify-net, driver_type: bridge}
"""
# The daemon as it is, but for a manifest that is read for as long as a file of some name is there.
PLANTED = """
import ctypes, os, sys, time
from pathlib import Path
from reconciler.adapters.file_source import FileSource

as_it_is = FileSource.load

def wait_for_nobody():
    while Path("stuck").exists():
        time.sleep(0.02)

def wait_for_a_disk():
    '''A parent is in state D until its child has become another program; this child first opens a pipe.'''
    libc = ctypes.CDLL(None)
    actions, pid = ctypes.create_string_buffer(512), ctypes.c_int()
    libc.posix_spawn_file_actions_init(actions)
    libc.posix_spawn_file_actions_addopen(actions, 9, b"pipe", os.O_RDONLY, 0)
    words = (ctypes.c_char_p * 2)(b"true", None)
    libc.posix_spawnp(ctypes.byref(pid), b"true", actions, None, words, None)

def load(self):
    if Path("stuck").exists():
        wait_for_nobody()
    if Path("pipe").exists() and Path("slow").exists():
        Path("slow").unlink()
        wait_for_a_disk()
    return as_it_is(self)

FileSource.load = load
from reconciler.daemon import main
sys.exit(main())
"""


class Manager:
    """What systemd is to the daemon: a socket it tells things."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.heard: list[str] = []

    def hear(self, limit_s: float) -> str | None:
        """The next datagram; None when there is none in time."""
        self._socket.settimeout(limit_s)
        try:
            said = self._socket.recv(65536).decode()
        except TimeoutError:
            return None
        self.heard.append(said)
        return said

    def wait_for(self, wanted: Callable[[str], bool], what: str) -> str:
        """The first datagram from now on that is wanted."""
        deadline = time.monotonic() + LIMIT_S
        while (left := deadline - time.monotonic()) > 0:
            said = self.hear(left)
            if said is not None and wanted(said):
                return said
        raise AssertionError(f"not within {LIMIT_S:g} s: {what}; heard {self.heard[-20:]}")

    def wait_for_line(self, line: str) -> str:
        return self.wait_for(lambda said: line in said.split("\n"), line)

    def forget(self) -> None:
        """Nothing that was said before counts."""
        self._socket.setblocking(False)
        try:
            while True:
                self._socket.recv(65536)
        except BlockingIOError:
            self.heard.clear()

    def close(self) -> None:
        self._socket.close()


@contextmanager
def daemon(
    folder: Path, manager: Manager | None, output: int | None = None, **given: str
) -> Iterator[subprocess.Popen[str]]:
    """The daemon in `folder`, told of `manager`, with `given` in its environment; it has no engine.

    It writes to the descriptor `output`, else into a log in `folder`.
    """
    (folder / "manifest.yaml").write_text(MANIFEST)
    environment = {**os.environ, "DOCKER_HOST": f"unix://{folder}/no-engine.sock", **given}
    environment |= {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": f"{WATCHDOG_S * 1e6:.0f}"} if manager else {}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", PLANTED, "--metrics-port", "0", "--hang-limit", str(HANG_S)],
            cwd=folder,
            env=environment,
            stdout=log if output is None else output,
            stderr=log if output is None else output,
            text=True,
        )
    try:
        yield process
    finally:
        (folder / "stuck").unlink(missing_ok=True)
        process.kill()
        process.wait()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify"))
    yield made
    made.close()


@pytest.fixture
def abstract() -> Iterator[Manager]:
    made = Manager(f"@swiftdeploy-{secrets.token_hex(8)}")
    yield made
    made.close()


@pytest.mark.fault("A5", "A7", "A15")
def test_it_says_when_it_is_ready_lives_while_it_rests_reloads_and_stops(manager: Manager, tmp_path: Path) -> None:
    with daemon(tmp_path, manager) as process:
        assert manager.wait_for(lambda said: True, "a word").startswith("READY=1\n")
        manager.wait_for(lambda said: re.match(r"STATUS=cycle \d+: There is no", said) is not None, "what is wrong")
        for _ in range(13):  # more than 6 s
            manager.wait_for_line("WATCHDOG=1")
        assert not any("trigger" in said for said in manager.heard)
        assert process.poll() is None

        process.send_signal(signal.SIGHUP)
        began = manager.wait_for(lambda said: "RELOADING=1" in said, "the reload")
        since = int(re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", began)[1]) / 1e6  # type: ignore[index]
        assert 0 <= time.monotonic() - since < LIMIT_S
        manager.heard.clear()  # not forget(): what came meanwhile is already the answer
        manager.wait_for_line("READY=1")
        assert any(said.startswith("STATUS=cycle") for said in manager.heard)

        process.send_signal(signal.SIGTERM)
        manager.wait_for_line("STOPPING=1")
        assert process.wait(LIMIT_S) == 0


@pytest.mark.fault("C8")
def test_one_whose_state_directory_was_replaced_ends_with_an_error(manager: Manager, tmp_path: Path) -> None:
    with daemon(tmp_path, manager) as process:
        manager.wait_for(lambda said: said.startswith("STATUS=cycle"), "the first cycle")
        shutil.rmtree(tmp_path / "state")
        process.send_signal(signal.SIGHUP)
        assert process.wait(LIMIT_S) == 1
        assert "was replaced while it was in use" in (tmp_path / "log").read_text()


@pytest.mark.fault("A10")
def test_a_frozen_or_stuck_daemon_gives_no_sign_of_life(abstract: Manager, tmp_path: Path) -> None:
    with daemon(tmp_path, abstract) as process:
        abstract.wait_for(lambda said: said.startswith("STATUS=cycle"), "the first cycle")
        abstract.wait_for_line("WATCHDOG=1")

        process.send_signal(signal.SIGSTOP)
        wait_for_state(process.pid, "T", every_thread=True)
        abstract.forget()
        assert abstract.hear(WATCHDOG_S) is None
        process.send_signal(signal.SIGCONT)
        abstract.wait_for_line("WATCHDOG=1")

        (tmp_path / "stuck").touch()
        process.send_signal(signal.SIGHUP)
        abstract.wait_for(lambda said: said.startswith("WATCHDOG=trigger"), "word of the hang")
        assert abstract.hear(WATCHDOG_S) is None
        assert '"loop.hung"' in (tmp_path / "log").read_text()

        process.send_signal(signal.SIGABRT)  # systemd's answer
        assert process.wait(LIMIT_S) == -signal.SIGABRT
        when_told, at_the_end = (tmp_path / "log").read_text().split("Fatal Python error: Aborted")
        assert "in wait_for_nobody" in when_told
        assert "in wait_for_nobody" in at_the_end


@pytest.mark.fault("C12")
@pytest.mark.skipif(sys.platform != "linux", reason="states of threads are read in /proc")
def test_a_slow_disk_is_not_a_hang(abstract: Manager, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with daemon(tmp_path, abstract) as process:
        abstract.wait_for(lambda said: said.startswith("STATUS=cycle"), "the first cycle")
        abstract.wait_for_line("WATCHDOG=1")
        (tmp_path / "slow").touch()
        process.send_signal(signal.SIGHUP)
        wait_for_state(process.pid, "D")
        abstract.forget()
        for _ in range(13):  # more than 6 s
            abstract.wait_for_line("WATCHDOG=1")
        assert not any("trigger" in said or "STATUS" in said for said in abstract.heard)
        assert state(process.pid) == "D"
        os.close(os.open(tmp_path / "pipe", os.O_WRONLY))
        abstract.wait_for(lambda said: said.startswith("STATUS=cycle"), "the cycle to go on")
        assert process.poll() is None


def test_where_nobody_watches_a_stuck_daemon_ends_itself(tmp_path: Path) -> None:
    with daemon(tmp_path, None) as process:
        (tmp_path / "stuck").touch()
        assert process.wait(LIMIT_S) == 70
        assert "in wait_for_nobody" in (tmp_path / "log").read_text()


def wait_for_state(pid: int, wanted: str, every_thread: bool = False) -> None:
    """Of the main thread, where the loop turns, or of all of them."""
    deadline = time.monotonic() + LIMIT_S
    while {wanted} != (found := states(pid) if every_thread else {state(pid)}):
        assert time.monotonic() < deadline, f"process {pid} is in state {found}, not {wanted}"
        time.sleep(0.02)


def state(pid: int) -> str:
    return _state(Path(f"/proc/{pid}/stat"))


def states(pid: int) -> set[str]:
    return {_state(path) for path in Path(f"/proc/{pid}/task").glob("*/stat")}


def _state(stat: Path) -> str:
    return stat.read_text().rpartition(")")[2].split()[0]


# ---------------------------------------------------------------- by itself


def test_the_variables_are_taken_and_not_handed_down() -> None:
    given = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7", "HOME": "/"}
    notifier, watchdog_s = taken_from(given, 7)
    assert (notifier.is_heard, watchdog_s) == (True, 30.0)
    assert given == {"HOME": "/"}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "-1"},
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"},
    ],
)
def test_no_sign_of_life_is_wanted_of_whoever_was_not_asked(given: dict[str, str]) -> None:
    assert taken_from(given, 7)[1] is None


def test_nobody_there_is_no_trouble_but_a_line_in_the_log(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as told:
        Notifier(None).tell("READY=1")
        assert not told
        Notifier(str(tmp_path / "gone")).tell("READY=1")
        Notifier("/" + "x" * 200).tell("READY=1")
    assert [(line["event"], line["told"]) for line in told] == [("notify.failed", "READY=1")] * 2


@pytest.mark.control("K18")
def test_what_others_wrote_cannot_add_a_line_to_the_status(abstract: Manager) -> None:
    Notifier(abstract.address).status("bad\nREADY=1\x1b[2J")
    assert abstract.hear(LIMIT_S) == "STATUS=bad\\nREADY=1\\x1b[2J"


# ---------------------------------------------------------------- rough treatment


@pytest.mark.fault("A6")
def test_one_that_is_killed_while_it_stops_starts_as_if_nothing_had_been(abstract: Manager, tmp_path: Path) -> None:
    with daemon(tmp_path, abstract) as process:
        abstract.wait_for(lambda said: said.startswith("STATUS=cycle"), "the first cycle")
        (tmp_path / "stuck").touch()
        process.send_signal(signal.SIGHUP)
        abstract.wait_for(lambda said: "RELOADING=1" in said, "a cycle that does not end")
        process.send_signal(signal.SIGTERM)
        abstract.wait_for_line("STOPPING=1")
        process.kill()
        process.wait()
    abstract.forget()
    with daemon(tmp_path, abstract) as process:
        abstract.wait_for(lambda said: said.startswith("STATUS=cycle"), "the next one's first cycle")
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0
    history = [json.loads(line) for line in (tmp_path / "state/history.jsonl").read_text().splitlines()]
    assert all(later["prev"] == earlier["hash"] for earlier, later in itertools.pairwise(history))


@pytest.mark.fault("A17")
def test_an_odd_environment_changes_nothing(abstract: Manager, tmp_path: Path) -> None:
    odd = {"LC_ALL": "xx_XX.none", "LANG": "", "TZ": "No/Such:Zone", "HOME": "/nonexistent", "TMPDIR": "/nonexistent"}
    with daemon(tmp_path, abstract, **odd) as process:
        abstract.wait_for(lambda said: said.startswith("STATUS=cycle"), "a cycle")
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0


@pytest.mark.fault("A8")
def test_one_whose_output_nobody_reads_and_that_is_interrupted_twice_ends_well(
    abstract: Manager, tmp_path: Path
) -> None:
    reading, writing = os.pipe()
    with daemon(tmp_path, abstract, writing) as process:
        os.close(writing)
        os.close(reading)
        abstract.wait_for(lambda said: said.startswith("STATUS=cycle"), "a cycle in spite of it")
        process.send_signal(signal.SIGINT)
        abstract.wait_for_line("STOPPING=1")
        process.send_signal(signal.SIGINT)
        give_up_at = time.monotonic() + LIMIT_S
        while process.poll() is None and time.monotonic() < give_up_at:
            abstract.hear(0.2)  # a manager reads on, else each word waits for its turn
        assert process.wait(LIMIT_S) == 0
