"""The command line's side of the control socket: every way in which there is no answer has its own words."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler import control
from reconciler.control import ControlError, ControlServer, NotRunning, ask

HELLO = json.dumps({"event": "hello", "protocol": 1, "version": "9.9"}).encode() + b"\n"


@contextmanager
def daemon_that_says(path: Path, *chunks: bytes, stays: bool = False) -> Iterator[None]:
    """A listener that answers any request with these bytes and closes (or stays silent)."""
    path.parent.mkdir(exist_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    done = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        connection.recv(65536)
        for chunk in chunks:
            connection.sendall(chunk)
        if stays:
            done.wait(10)
        connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield
    done.set()
    thread.join(5)
    listener.close()


def test_without_a_socket_no_daemon_is_running(socket_path: Path) -> None:
    with pytest.raises(NotRunning, match="No daemon is running: there is no control socket at"):
        ask(socket_path, "status", {})


@pytest.mark.fault("J10")
def test_a_dead_daemons_socket_is_no_daemon(socket_path: Path) -> None:
    socket_path.parent.mkdir()
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(socket_path))
    dead.close()
    with pytest.raises(NotRunning, match="is gone"):
        ask(socket_path, "status", {})


def test_a_state_directory_that_is_a_file_is_no_daemon(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(NotRunning):
        ask(tmp_path / "run" / "control.sock", "status", {})


def test_a_file_in_place_of_the_socket_is_no_daemon(socket_path: Path) -> None:
    socket_path.parent.mkdir()
    socket_path.write_text("")
    with pytest.raises(NotRunning):
        ask(socket_path, "status", {})


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user to be refused as")
@pytest.mark.parametrize("closed", ["socket", "folder"])
def test_who_may_not_connect_is_told_which_group_may(
    serve: Callable[..., ControlServer], socket_path: Path, closed: str
) -> None:
    serve(group="daemon")
    place = socket_path if closed == "socket" else socket_path.parent
    for folder in socket_path.parents:
        if folder.name.startswith("pytest-"):
            os.chmod(folder, 0o755)
        if folder == Path("/tmp"):
            break
        os.chmod(folder, 0o755)
    if closed == "folder":
        os.chown(place, -1, socket_path.stat().st_gid)
        os.chmod(place, 0o750)
    code = (
        "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "from pathlib import Path\n"
        "from reconciler.control import ask, ControlError\n"
        "try: ask(Path(sys.argv[1]), 'status', {})\n"
        "except ControlError as error: print(type(error).__name__, error)\n"
    )
    preload = "import pwd, grp, reconciler.control\n"
    answer = subprocess.run(
        [sys.executable, "-c", preload + code, str(socket_path)], capture_output=True, text=True, check=False
    )
    assert answer.stdout.startswith("ControlError You may not use"), answer.stderr
    assert f"{place} belongs to group 'daemon'" in answer.stdout


@pytest.mark.fault("J10")
def test_a_frozen_daemon_is_no_hang(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "ANSWER_S", 0.2)
    socket_path.parent.mkdir()
    frozen = socket.socket(socket.AF_UNIX)
    frozen.bind(str(socket_path))
    frozen.listen(1)
    started = time.monotonic()
    for _ in range(4):  # the later ones find the queue full
        with pytest.raises(ControlError, match="stopped or overloaded"):
            list(ask(socket_path, "status", {}))
    assert time.monotonic() - started < 3
    frozen.close()


@pytest.mark.fault("J10")
def test_a_full_queue_is_waited_for(socket_path: Path) -> None:
    socket_path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(socket_path))
        busy.listen(0)
        others = [socket.socket(socket.AF_UNIX)]
        others[0].connect(str(socket_path))  # the only place in the queue

        def take_them() -> None:
            taken, _ = busy.accept()
            second, _ = busy.accept()
            second.sendall(HELLO + b'{"event":"end","exit":0,"text":"well"}\n')
            taken.close()
            second.close()

        taker = threading.Timer(0.3, take_them)
        taker.start()
        assert list(ask(socket_path, "status", {}))[-1]["text"] == "well"
        taker.join()
        others[0].close()


def test_a_daemon_that_falls_silent_is_given_up_only_where_asked(socket_path: Path) -> None:
    with daemon_that_says(socket_path, HELLO, stays=True), pytest.raises(ControlError, match="does not answer"):
        list(ask(socket_path, "status", {}, silence_s=0.1))


@pytest.mark.fault("J10")
@pytest.mark.parametrize(
    "answer",
    [b"", HELLO, HELLO + b'{"event":"line","text":"x"}\n'],
    ids=["at once", "after hello", "in the middle"],
)
def test_a_daemon_that_goes_away_is_told(socket_path: Path, answer: bytes) -> None:
    with daemon_that_says(socket_path, answer), pytest.raises(ControlError, match="went away before its answer"):
        list(ask(socket_path, "deploy", {}))


@pytest.mark.fault("J10")
def test_another_version_is_named(socket_path: Path) -> None:
    hello = json.dumps({"event": "hello", "protocol": 2, "version": "9.9"}).encode() + b"\n"
    with daemon_that_says(socket_path, hello), pytest.raises(ControlError, match=r"another version \(9\.9, this is"):
        list(ask(socket_path, "deploy", {}))


@pytest.mark.fault("J10")
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xff\xfe\n",
        b"[]\n",
        b"{}\n",
        b'{"event":1}\n',
        b'{"event":"end"}\n',
        b'{"event":"end","exit":"0","text":""}\n',
        b'{"event":"hello","protocol":1}\n{"event":"li',
        b"[" * 100_000 + b"\n",
    ],
)
def test_what_is_no_daemon_is_named_as_such(socket_path: Path, answer: bytes) -> None:
    with daemon_that_says(socket_path, answer), pytest.raises(ControlError, match="no daemon of this version"):
        list(ask(socket_path, "deploy", {}))


def test_an_endless_line_is_not_read_for_ever(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MAX_EVENT_BYTES", 1000)
    with daemon_that_says(socket_path, b"x" * 5000), pytest.raises(ControlError, match="no daemon of this version"):
        list(ask(socket_path, "deploy", {}))
