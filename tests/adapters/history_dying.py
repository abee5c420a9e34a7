"""A program that writes a log and is killed (SIGKILL) before or after the n-th call that changes the disk, for all n.

    python history_dying.py FOLDER

For each n and side a child is forked; what it was told to be safe is printed by its parent, one JSON object a line.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reconciler.adapters import history_disk, history_live, history_packing, history_recovery, state_dir
from reconciler.adapters.history_checkpoints import Checkpoints
from reconciler.adapters.history_file import HistoryFile

NOW = "2026-11-23T01:02:03Z"
CHANGES = frozenset(
    {"write", "rename", "unlink", "ftruncate", "fchmod", "chmod", "fdatasync", "fsync", "utime", "mkdir", "link"}
)
RECORDS, SEGMENT_BYTES = 16, 2_600


class Killing:
    """`os`, until the n-th call that changes something: there the process is gone."""

    def __init__(self, calls: int, after: bool) -> None:
        self.left, self.after = calls, after

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return self._counted(real) if name in CHANGES else real

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == 0 and not self.after:
                os.kill(os.getpid(), signal.SIGKILL)
            answer = real(*given, **named)
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return call


def write(directory: Path, told: Callable[[int], None]) -> None:
    """The whole life of a writer: begin, append, sign, rotate, compress, close."""
    checkpoints = Checkpoints(lambda _message: "bm90IHJlYWw=", lambda: 0.0, 5)
    made = HistoryFile(directory, "demo", "1", lambda: "id", SEGMENT_BYTES, checkpoints=checkpoints, packs=True)
    for number in range(RECORDS):
        made.append({"kind": "cycle", "number": number, "pad": "x" * 100}, NOW)
        told(number)
    made.close()


def die(directory: Path, calls: int, after: bool) -> tuple[bool, list[int]]:
    """Whether the child was killed, and the records it was told were safe."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        dying: Any = Killing(calls, after)
        for module in (history_disk, history_live, history_packing, history_recovery, state_dir):
            module.os = dying  # type: ignore[attr-defined]
        write(directory, lambda number: os.write(writing, b"%d\n" % number) and None)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        safe = [int(line) for line in pipe.read().split()]
    return os.WIFSIGNALED(os.waitpid(child, 0)[1]), safe


def main() -> None:
    for after in (False, True):
        calls = 0
        was_killed = True
        while was_killed:
            calls += 1
            directory = Path(sys.argv[1]) / f"{'after' if after else 'before'}-{calls}"
            directory.mkdir()
            was_killed, safe = die(directory, calls, after)
            print(json.dumps({"directory": str(directory), "killed": was_killed, "safe": safe}), flush=True)


if __name__ == "__main__":
    main()
