"""The host's side of `doctor`: each finding says what to do about it."""

from __future__ import annotations

import json
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli import doctor
from reconciler.cli.checks import Check
from reconciler.cli.options import Options
from reconciler.core.errors import EngineError, StateError
from reconciler.operations import Request

END = {"event": "end", "exit": 0, "text": "", "value": None}


@pytest.fixture
def options(tmp_path: Path) -> Options:
    return Options("swiftdeploy", tmp_path / "manifest.yaml", tmp_path / "state")


@pytest.fixture
def well(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without a fault, whatever this one is like."""
    monkeypatch.setattr(doctor, "LOOKS", (lambda options: Check("Python", True, "3.11"),))


def test_a_healthy_host_is_exit_0(run: Any, daemon: Any, operations: Any, well: None) -> None:
    operations.answers["doctor"] = [{"event": "check", "number": 1, "name": "engine", "ok": True, "detail": "20"}, END]
    result = run("doctor")
    assert (result.code, result.err) == (0, "")
    assert result.out == "PASS  Python: 3.11\nPASS  engine: 20\n\n2 looks, all well.\n"


def test_something_worth_a_look_is_no_failure(run: Any, daemon: Any, well: None, monkeypatch: Any) -> None:
    monkeypatch.setattr(doctor, "LOOKS", (lambda options: Check("Clock", None, "drifts"),))
    result = run("doctor")
    assert (result.code, result.out) == (0, "WARN  Clock: drifts\n\n1 looks: 0 wrong, 1 worth a look.\n")


def test_an_engine_that_cannot_be_had_is_a_finding(run: Any, local: Any, operations: Any, well: None) -> None:
    def answer(request: Request) -> Iterator[Any]:
        raise EngineError("Docker is down\x1b[2J")
        yield

    operations.answers["doctor"] = answer
    result = run("doctor")
    assert result.code == 1
    assert "FAIL  Docker Engine: Docker is down\\x1b[2J" in result.out
    as_json = json.loads(run("doctor", "-o", "json").out)
    assert as_json["ok"] is False


def test_this_host_is_looked_at_without_a_crash(options: Options) -> None:
    for look in doctor.LOOKS:
        check = look(options)
        assert check.name
        assert check.detail


def test_looking_changes_nothing(options: Options) -> None:
    for look in doctor.LOOKS:
        look(options)
    assert not options.state_dir.exists()


def test_the_docker_socket(options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    assert "Install and start" in doctor._docker_socket(options).detail
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        assert "Start the Docker Engine" in doctor._docker_socket(options).detail
        listener.listen()
        assert doctor._docker_socket(options).ok
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:2376")
    assert "tcp://elsewhere:2376" in doctor._docker_socket(options).detail


def test_a_state_directory_that_cannot_be_written(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    check = doctor._state_directory(options)
    assert check.ok is False
    assert "--state-dir" in check.detail


def test_little_room(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 50_000_000})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    assert doctor._room(options).ok is False
    usage.free = 500_000_000
    assert doctor._room(options).ok is None


def test_few_open_files(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 4096))
    check = doctor._open_files(options)
    assert check.ok is None
    assert "ulimit -n 1024" in check.detail


def test_few_file_watches(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_number", lambda path: 10)
    check = doctor._inotify(options)
    assert check.ok is None
    assert "sysctl -w fs.inotify" in check.detail


@pytest.mark.parametrize(("state", "ok"), [(0, True), (5, None), (None, None)])
def test_the_clock(options: Options, monkeypatch: pytest.MonkeyPatch, state: int | None, ok: bool | None) -> None:
    monkeypatch.setattr(doctor, "_kernel_clock_state", lambda: state)
    assert doctor._clock(options).ok is ok


def test_compose(options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\n[ "$*" = "compose version --short" ] && echo 2.99.0\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor._compose(options) == Check("Compose plugin", True, "2.99.0")
    docker.write_text("#!/bin/sh\nexit 1\n")
    assert doctor._compose(options).ok is None
    docker.unlink()
    assert "no docker command" in doctor._compose(options).detail


# ---------------------------------------------------------------- the state directory


def test_a_read_only_file_system_is_named_and_is_no_fault_of_the_engine(
    run: Any, local: Any, operations: Any, options: Options, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: Request) -> Iterator[Any]:
        raise StateError(f"{state_dir}: Read-only file system. Choose another --state-dir.")
        yield

    operations.answers["doctor"] = answer
    read_only = type("Vfs", (), {"f_flag": os.ST_RDONLY})
    monkeypatch.setattr(doctor.os, "statvfs", lambda path: read_only)
    monkeypatch.setattr(doctor, "LOOKS", (doctor._state_directory,))
    result = run("doctor")
    assert result.code == 1
    assert result.out.startswith("FAIL  State directory: ")
    assert "read-only file system. Remount it for writing, or name another directory" in result.out
    assert result.out.count("FAIL") == 1
    assert "WARN  Docker Engine: Not asked" in result.out


def test_a_state_directory_that_is_refused_later_is_still_not_the_engine(
    run: Any, local: Any, operations: Any, well: None
) -> None:
    def answer(request: Request) -> Iterator[Any]:
        raise StateError("the disk went away")
        yield

    operations.answers["doctor"] = answer
    out = run("doctor").out
    assert "FAIL  State directory: the disk went away" in out
    assert "WARN  Docker Engine: Not asked" in out


def test_a_state_directory_that_everybody_may_write_is_refused_before_it_is_used(options: Options) -> None:
    options.state_dir.mkdir()
    options.state_dir.chmod(0o777)
    check = doctor._state_directory(options)
    assert (check.ok, "chmod o-w" in check.detail) == (False, True)


@pytest.mark.fault("C9")
@pytest.mark.parametrize("kind", ["tmpfs", "nfs4", "fuse.sshfs"])
def test_a_state_directory_in_memory_or_on_a_network_is_worth_a_warning(
    options: Options, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(doctor, "kind_of", lambda path: kind)
    check = doctor._state_directory(options)
    assert check.ok is None
    assert check.detail.startswith(f"{options.state_dir} is ")
    assert f"({kind})" in check.detail
    monkeypatch.setattr(doctor, "kind_of", lambda path: "ext4")
    assert doctor._state_directory(options).ok is True
