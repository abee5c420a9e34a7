"""git is run with nothing of ours but what it is given, and never for longer or for more than it may."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from reconciler.adapters.git_command import (
    Git,
    GitError,
    GitMissing,
    GitTimeout,
    GitTooMuch,
    Limits,
    Setting,
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir()
    return made


def script(folder: Path, text: str) -> str:
    """A program in the place of git."""
    path = folder / "git"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def run(home: Path, text: str, limits: Limits | None = None, **more: object) -> bytes:
    made = Git(home, script(home.parent, text))
    return made.run(["look"], limits or Limits(10.0), **more).output  # type: ignore[arg-type]


def test_it_prints_what_it_prints(home: Path) -> None:
    assert run(home, "cat; echo $1", given=b"given ") == b"given look\n"


@pytest.mark.control("K11", "K14")
def test_nothing_of_our_environment_reaches_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_DIR", "GIT_SSH_COMMAND", "SECRET_OF_OURS", "NOTIFY_SOCKET", "LD_LIBRARY_PATH", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "planted")
    found = dict(line.split("=", 1) for line in run(home, "env").decode().splitlines())
    assert "planted" not in found.values()
    ours = {"PATH", "HOME", "XDG_CONFIG_HOME", "LC_ALL", "PWD", "OLDPWD", "SHLVL", "_"}
    assert {name for name in found if not name.startswith(("GIT_", "SSH_ASKPASS"))} <= ours
    assert (found["HOME"], found["GIT_ALLOW_PROTOCOL"]) == (str(home), "none")


@pytest.mark.control("K11")
def test_no_descriptor_of_ours_reaches_it(home: Path) -> None:
    with socket.socketpair()[0] as held:
        os.set_inheritable(held.fileno(), True)
        found = run(home, "ls -l /proc/self/fd | grep -c socket || true").decode().strip()
    assert found == "0"


@pytest.mark.fault("GT1")
@pytest.mark.control("K11")
def test_at_its_deadline_it_and_all_it_started_are_gone(home: Path) -> None:
    mark = home / "pids"
    text = f"trap '' TERM; sleep 300 & echo $! >> {mark}; echo $$ >> {mark}; echo out; wait; sleep 300"
    with pytest.raises(GitTimeout, match=r"within 0\.5 s"):
        run(home, text, Limits(0.5))
    for pid in mark.read_text().split():
        give_up_at = time.monotonic() + 10
        while _runs(int(pid)):
            assert time.monotonic() < give_up_at, f"{pid} still runs"
            time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.fault("GT1")
def test_what_it_leaves_running_is_ended_with_it(home: Path) -> None:
    mark = home / "pid"
    run(home, f"(exec >/dev/null 2>&1 </dev/null; exec sleep 300) & echo $! > {mark}")
    give_up_at = time.monotonic() + 10
    while _runs(int(mark.read_text())):
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


def test_one_that_closes_its_pipes_and_stays_is_ended(home: Path) -> None:
    with pytest.raises(GitTimeout):
        run(home, "exec >&- 2>&-; sleep 300", Limits(0.3))


@pytest.mark.fault("GT8")
def test_it_may_print_only_so_much(home: Path) -> None:
    with pytest.raises(GitTooMuch, match="printed more than 1000 bytes"):
        run(home, "yes", Limits(10.0, output_bytes=1000))


@pytest.mark.fault("GT8")
def test_it_may_write_only_so_much(home: Path) -> None:
    with pytest.raises(GitTooMuch, match="100000 bytes"):
        run(home, "head -c 200000 /dev/zero > big", Limits(10.0, file_bytes=100_000))
    assert (home / "big").stat().st_size <= 100_000


def test_a_long_complaint_keeps_its_beginning_and_its_end(home: Path) -> None:
    text = "echo first >&2; head -c 3000000 /dev/zero | tr '\\0' x >&2; echo; echo 'fatal: last' >&2; exit 1"
    with pytest.raises(GitError) as failed:
        run(home, text)
    assert failed.value.said.startswith("first")
    assert failed.value.said.endswith("fatal: last\n")
    assert len(failed.value.said) < 300_000


@pytest.mark.control("K15")
def test_a_secret_that_it_repeats_is_hidden(home: Path) -> None:
    with pytest.raises(GitError) as failed:
        run(home, "echo 'fatal: no entry with tok3n' >&2; exit 1", setting=Setting(secrets=("tok3n",)))
    assert "tok3n" not in failed.value.said + str(failed.value)
    assert "tok3n" not in repr(Setting(secrets=("tok3n",)))


@pytest.mark.control("K18")
def test_what_it_complains_of_cannot_steer_a_terminal(home: Path) -> None:
    with pytest.raises(GitError, match=r"\\x1b\[2J"):
        run(home, "printf 'fatal: \\033[2J\\n' >&2; exit 1")


def test_an_end_that_is_expected_is_no_error(home: Path) -> None:
    made = Git(home, script(home.parent, "exit 3"))
    assert made.run(["look"], Limits(), fails=True).status == 3


def test_one_that_is_killed_is_an_error(home: Path) -> None:
    with pytest.raises(GitError) as failed:
        run(home, "kill -9 $$")
    assert failed.value.status == -signal.SIGKILL


def test_a_host_without_git_is_told_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.adapters.git_command.PROGRAMS", str(home))
    with pytest.raises(GitMissing, match="apt install git"):
        Git(home).run(["version"], Limits())


def test_after_its_end_nothing_is_started(home: Path) -> None:
    made = Git(home)
    made.close()
    with pytest.raises(GitError, match="stopping"):
        made.run(["version"], Limits())
