"""A state directory that cannot be written: what serves goes on, and everything else waits for the disk."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import pytest

from tests.e2e.faults import tools
from tests.e2e.faults.crash_stack import CrashStack, traffic
from tests.e2e.faults.state_directory import LIMIT_S, site, troubles_of
from tests.e2e.faults.syscalls import FOLDER, HISTORY, ONCE, RENAMES, ROLLOUT, SyscallFault
from tests.e2e.stack import wait_for

SAMPLE = (
    SyscallFault("write", HISTORY, "error=ENOSPC"),
    SyscallFault("write", HISTORY, "retval=1", ONCE),
    SyscallFault("fsync,fdatasync", HISTORY, "error=EIO", ONCE),
    SyscallFault("write", ROLLOUT, "error=EROFS"),
    SyscallFault(RENAMES, FOLDER, "error=EIO", ONCE),
)
"""One of each kind; `python -m tests.e2e.faults.state_directory` tries all."""


@pytest.mark.fault("C1", "C2", "C3", "C4")
def test_a_system_call_that_fails_must_cost_no_request_and_no_record(
    tmp_path: Path, engine: docker.DockerClient
) -> None:
    tools.root_for("attaching strace")
    tools.strace()
    with site(tmp_path, engine) as stack:
        for number, fault in enumerate(SAMPLE, 2):
            assert troubles_of(stack, fault, f"{number}.0.0") == [], str(fault)


INODES = 2000


@contextmanager
def small_disk(at: Path, megabytes: int) -> Iterator[None]:
    """A file system of that size, in memory; skips where none can be mounted."""
    tools.root_for("mounting a small file system")
    at.mkdir()
    options = f"size={megabytes}m,nr_inodes={INODES},mode=0750"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(at)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"LEFT OUT: a small file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


def filled(disk: Path) -> Path:
    """A file that leaves not one byte."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    return filler


def without_inodes(disk: Path) -> list[Path]:
    """Files after which no other can be made, though there is room."""
    made: list[Path] = []
    try:
        while len(made) <= INODES:
            made.append(disk / f"filler-{len(made)}")
            made[-1].touch()
    except OSError:
        made.pop()
    return made


@pytest.mark.fault("C1", "C10", "A1")
def test_a_full_disk_must_stop_new_things_only_and_be_recovered_from(
    tmp_path: Path, engine: docker.DockerClient
) -> None:
    with small_disk(tmp_path / "state", 4), site(tmp_path, engine) as stack:
        (app,) = stack.containers("app")
        filler = filled(tmp_path / "state")
        _nothing_new_but_healing(stack, "2.0.0", "No space left on device")
        stack.daemon_dies()
        wait_for("a cycle on the full disk", lambda: stack.last_cycle().get("errors"), LIMIT_S)
        assert [container.id for container in stack.containers("app")] == [app.id]
        filler.unlink()
        wait_for("2.0.0", lambda: stack.rests("2.0.0"), LIMIT_S)
        _written_whole(stack)
        fillers = without_inodes(tmp_path / "state")
        _nothing_new_but_healing(stack, "3.0.0", "No space left on device")
        for filler in fillers:
            filler.unlink()
        wait_for("3.0.0", lambda: stack.rests("3.0.0"), LIMIT_S)
        _written_whole(stack)


def _nothing_new_but_healing(stack: CrashStack, version: str, words: str) -> None:
    """The new version is refused, saying why; requests are answered; a container that dies is started again."""
    (app,) = stack.containers("app")
    with traffic(stack.port, 30) as client:
        stack.write(stack.manifest(service=f'version: "{version}"'))
        wait_for("the trouble", lambda: words in str(stack.last_cycle().get("errors")), LIMIT_S)
    assert client.failed == {}
    assert [container.id for container in stack.containers("app")] == [app.id]
    app.kill()
    wait_for("healing", stack.answers, LIMIT_S)
    assert [container.id for container in stack.containers("app")] == [app.id]


def _written_whole(stack: CrashStack) -> None:
    assert stack.history_is_whole() == ""
    assert sorted(container.labels["io.swiftdeploy.service"] for container in stack.containers()) == [
        "app",
        "nginx",
        "opa",
    ]
