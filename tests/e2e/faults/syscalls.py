"""System calls of a running daemon that fail: strace is attached, answers in the kernel's place, and lets go again."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.faults import tools
from tests.e2e.stack import wait_for

TEMPORARIES = 400
"""How many of the next temporary files of a state file are named to strace, which knows no patterns."""


@dataclass(frozen=True)
class SyscallFault:
    """`calls` on `files` end as `result` says (strace's words); `when` is "" for always, "1" for the first only.

    A file is named relative to the state directory; `write` and `fsync` of one that is replaced whole are those of
    its temporary file.
    """

    calls: str
    files: tuple[str, ...]
    result: str
    when: str = ""

    def __str__(self) -> str:
        lasting = "once" if self.when else "always"
        return f"{self.calls} of {'+'.join(self.files)}: {self.result}, {lasting}"


class Injection:
    """What was injected so far."""

    def __init__(self, log: Path) -> None:
        self._log = log

    @property
    def struck(self) -> int:
        return self._log.read_text(errors="replace").count("(INJECTED)") if self._log.exists() else 0


@contextmanager
def injecting(pid: int, state: Path, fault: SyscallFault) -> Iterator[Injection]:
    """While it lasts, the process has that fault."""
    log = state.parent / "strace.log"
    log.unlink(missing_ok=True)
    when = f":when={fault.when}" if fault.when else ""
    process = subprocess.Popen(
        [
            tools.strace(),
            *("-f", "-qq", "-o", str(log), "-p", str(pid), "-e", f"trace={fault.calls}"),
            *("-e", f"inject={fault.calls}:{fault.result}{when}"),
            *(part for path in _paths(pid, state, fault.files) for part in ("-P", path)),
        ],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for("strace holds every thread", lambda: process.poll() is not None or _is_traced(pid), 10)
        assert process.poll() is None, f"strace cannot attach: {process.stderr.read() if process.stderr else ''}"
        yield Injection(log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)


def _is_traced(pid: int) -> bool:
    states = [Path(task, "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return not any("TracerPid:\t0\n" in state for state in states)


def _paths(pid: int, state: Path, files: Sequence[str]) -> Iterator[str]:
    for name in files:
        path = state / name
        yield str(path)
        yield str(path.with_name(f".{path.name}.swiftdeploy-new"))
        if path.suffix == ".json":
            yield from (str(path.with_name(f".{path.name}.{pid}-{n}.tmp")) for n in range(1, TEMPORARIES))


HISTORY, ROLLOUT, FOLDER, NGINX = ("history.jsonl",), ("rollout.json",), ("",), ("rendered/nginx/live/nginx.conf",)
RENAMES = "rename,renameat,renameat2"
ONCE = "1"

FAULTS = (
    *(SyscallFault("write", HISTORY, f"error={code}") for code in ("ENOSPC", "EIO", "EROFS", "EDQUOT")),
    *(SyscallFault("write", HISTORY, f"error={code}", ONCE) for code in ("ENOSPC", "EIO")),
    SyscallFault("write", HISTORY, "retval=1", ONCE),
    SyscallFault("fsync,fdatasync", HISTORY, "error=EIO"),
    SyscallFault("fsync,fdatasync", HISTORY, "error=EIO", ONCE),
    *(SyscallFault("write", ROLLOUT, f"error={code}") for code in ("ENOSPC", "EIO", "EROFS")),
    SyscallFault("write", ROLLOUT, "retval=1", ONCE),
    SyscallFault("fsync", ROLLOUT, "error=EIO"),
    SyscallFault("fsync", ROLLOUT, "error=EIO", ONCE),
    *(SyscallFault(RENAMES, FOLDER, f"error={code}") for code in ("EIO", "EROFS", "ENOSPC")),
    SyscallFault(RENAMES, FOLDER, "error=EIO", ONCE),
    SyscallFault("fsync", FOLDER, "error=EIO"),
    *(SyscallFault("write", NGINX, f"error={code}") for code in ("ENOSPC", "EIO")),
    SyscallFault("fsync", NGINX, "error=EIO", ONCE),
)
"""All that are tried: `python -m tests.e2e.faults.state_directory`."""
