"""A writer that dies anywhere, by SIGKILL or with the power: no promised record is lost, no chain is broken."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from history_dying import RECORDS, SEGMENT_BYTES, write
from history_power import Power, states
from history_tools import independent_length, kinds, log, names, numbers, raw_lines

from reconciler.adapters import history_disk, history_live, history_packing, history_recovery, state_dir
from reconciler.adapters.history_packing import packing

MODULES: tuple[ModuleType, ...] = (history_disk, history_live, history_packing, history_recovery, state_dir)
NOW = "2026-11-23T01:02:03Z"
DYING = Path(__file__).with_name("history_dying.py")


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory where there is one: a killed process loses nothing there either, and syncs cost nothing."""
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=shared, prefix="history-") as folder:
        yield Path(folder)


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_disk, "sync_file", lambda fd: None)
    monkeypatch.setattr(history_disk, "sync_directory", lambda path: None)


def assert_recovers(directory: Path, promised: int) -> None:
    """The log is there, whole, with all that was promised and at most one record more; and it goes on, twice."""
    for _ in range(2):
        made = log(directory, SEGMENT_BYTES)
        made.open(NOW)
        there = numbers(directory)
        assert there == list(range(len(there)))
        assert promised <= len(there) <= promised + 1
        assert made.verify(full=True).is_whole
        assert made.damage() == []
        made.close()
    made.append({"kind": "cycle", "number": len(there)}, NOW)
    made.close()
    for _ in packing(directory):
        pass
    assert not list(directory.glob("*.tmp"))
    assert not (directory / "history.jsonl.next").exists()
    assert independent_length(directory) == made.link.seq
    assert numbers(directory) == list(range(len(there) + 1))


# --- SIGKILL


@pytest.mark.fault("C5", "C7")
@pytest.mark.usefixtures("no_sync")
def test_a_kill_before_or_after_any_call_of_append_rotate_sign_and_compress_is_recovered(memory: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, str(DYING), str(memory)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    deaths = [json.loads(line) for line in done.stdout.splitlines()]
    survivors = [death for death in deaths if not death["killed"]]
    assert [death["safe"] for death in survivors] == [list(range(RECORDS))] * 2
    assert len(deaths) > 100, "the writer does more than fifty things, and is killed on both sides of each"
    for death in deaths:
        assert death["safe"] == list(range(len(death["safe"])))
        assert_recovers(Path(death["directory"]), len(death["safe"]))


@pytest.mark.fault("C5")
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.parametrize(
    ("call", "number"),
    [("fdatasync", 7), ("rename", 2), ("rename", 5), ("unlink", 2), ("fsync", 4)],
)
@pytest.mark.usefixtures("no_sync")
def test_a_kill_at_a_real_system_call_is_recovered(memory: Path, call: str, number: int) -> None:
    """The same with nothing between the writer and the kernel: the calls are those of the process, not of a shim."""
    (memory / "s").mkdir()
    script = f"""
import sys
sys.path[:0] = {[str(DYING.parent)]!r}
from pathlib import Path
from history_dying import write
print("begin", flush=True)
write(Path({str(memory / "s")!r}), lambda number: print(number, flush=True))
"""
    inject = [
        "strace",
        "-f",
        "-o",
        "/dev/null",
        "-e",
        f"trace={call}",
        "-e",
        f"inject={call}:signal=KILL:when={number}",
    ]
    words = [*inject, sys.executable, "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    if "begin" not in done.stdout and ("ptrace" in done.stderr or "not permitted" in done.stderr):
        pytest.skip("may not trace here")
    safe = done.stdout.split()[1:]
    assert done.returncode != 0, f"it was not killed: {done.stderr}"
    assert 0 < len(safe) < RECORDS
    assert_recovers(memory / "s", len(safe))


# --- the power goes


def powered(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Power:
    """The whole life of a writer, on a disk that notes what is done to it."""
    directory.mkdir()
    power = Power(directory)

    def told(number: int) -> None:
        power.told = number + 1

    with monkeypatch.context() as patch:
        for module in MODULES:
            patch.setattr(module, "os", power)
        write(directory, told)
    power.let_go()
    return power


@pytest.mark.fault("A16", "C5", "C7")
def test_a_power_cut_at_any_moment_loses_nothing_that_was_promised(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    power = powered(memory / "s", monkeypatch)
    assert numbers(memory / "s") == list(range(RECORDS))
    assert sum(name.endswith(".gz") for name in names(memory / "s")) >= 2
    monkeypatch.setattr(history_disk, "sync_file", lambda fd: None)
    monkeypatch.setattr(history_disk, "sync_directory", lambda path: None)
    seen: set[Any] = set()
    for moment in power.moments:
        for state in states(moment):
            key = (moment.told, tuple(sorted(state.items())))
            if key in seen:
                continue
            seen.add(key)
            assert_found_again(memory / "t", state, moment.told)
    assert len(seen) > 150


def assert_found_again(directory: Path, state: dict[str, bytes], promised: int) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for name, content in state.items():
        (directory / name).write_bytes(content)
    made = log(directory, SEGMENT_BYTES)
    made.open(NOW)
    there = numbers(directory)
    assert there[:promised] == list(range(promised)), (sorted(state), promised)
    assert len(there) <= promised + 1
    assert made.damage() == []
    assert independent_length(directory) == len(raw_lines(directory)) == len(kinds(directory))
    made.close()
