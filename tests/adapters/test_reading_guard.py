"""A manifest whose reading ends the process: real processes that die in it, then one that leaves it alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.adapters.file_source import FileSource
from reconciler.adapters.reading_guard import KEPT, MOST, ReadingGuard
from tests.adapters.test_file_source import GOOD
from tests.cycle.cycle_world import HandClock

ROOT = Path(__file__).parents[2]
DIES_IN_READING = """
import os, pathlib, signal, sys
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.file_source import FileSource
from reconciler.adapters.reading_guard import ReadingGuard
from reconciler.formats import manifest
real = manifest.read
def read(data, **rest):
    if b"poison" in data:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(data, **rest)
manifest.read = read
source = FileSource(pathlib.Path(sys.argv[1]), SystemClock(), guard=ReadingGuard(pathlib.Path(sys.argv[2])))
loaded = source.load()
print("in force" if loaded.desired else loaded.problems[0])
"""


def started(manifest: Path, notes: Path) -> subprocess.CompletedProcess[str]:
    """A daemon's first look at its manifest; one that says poison kills it."""
    command = [sys.executable, "-c", DIES_IN_READING, str(manifest), str(notes)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.fault("A12")
def test_what_ended_the_daemon_three_times_is_set_aside_until_it_changes(tmp_path: Path) -> None:
    path, notes = tmp_path / "manifest.yaml", tmp_path / "state/run/reading"
    path.write_text(GOOD + "# poison\n", encoding="utf-8")
    assert [started(path, notes).returncode for _ in range(MOST)] == [-signal.SIGKILL] * MOST
    after = started(path, notes)
    assert after.returncode == 0
    assert "has ended the daemon 3 times, so it is set aside" in after.stdout
    path.write_text(GOOD + "# mended\n", encoding="utf-8")
    assert started(path, notes).stdout == "in force\n"
    path.write_text(GOOD + "# poison\n", encoding="utf-8")
    assert "set aside" in started(path, notes).stdout, "the same content again"


def test_a_reading_that_comes_back_counts_nothing_however_it_ends(tmp_path: Path) -> None:
    guard = ReadingGuard(tmp_path / "notes")
    for _ in range(MOST + 1):
        with suppress(KeyError), guard.reading(b"a"):
            assert guard.deaths(b"a") == 1, "noted while it lasts"
            raise KeyError
    assert guard.deaths(b"a") == 0
    assert not list((tmp_path / "notes").iterdir())


def test_a_daemon_reads_a_manifest_a_hundred_times_without_holding_it_against_it(tmp_path: Path) -> None:
    path, clock = tmp_path / "manifest.yaml", HandClock()
    for at in range(100):
        path.write_text(GOOD + f"# {at % 3}\n", encoding="utf-8")
        assert FileSource(path, clock, guard=ReadingGuard(tmp_path / "notes")).load().desired is not None


def test_only_so_many_are_remembered_and_the_newest_of_them(tmp_path: Path) -> None:
    guard = ReadingGuard(tmp_path)
    for at in range(2 * KEPT):
        (tmp_path / f"{at:064x}").write_bytes(b"+")
        os.utime(tmp_path / f"{at:064x}", (at, at))
    with guard.reading(b"a"):
        assert len(list(tmp_path.iterdir())) == KEPT
    assert (tmp_path / f"{2 * KEPT - 1:064x}").exists()


def test_a_file_in_the_folder_s_place_keeps_nothing_from_being_read(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("", encoding="utf-8")
    with ReadingGuard(tmp_path / "notes").reading(b"a"):
        assert ReadingGuard(tmp_path / "notes").deaths(b"a") == 0
