"""The state directory and the log in it: whatever happens to a disk, what was promised is there, or it is said."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.adapters import history_disk
from reconciler.adapters.history_file import MAX_WAITING, START, HistoryFile, HistoryReader, Position
from reconciler.adapters.state_dir import MAX_CORRUPT_KEPT, LockHeld, StateDir
from reconciler.core.errors import StateError
from reconciler.formats.history import MAX_LINE_BYTES, Link, check

NOW = "2026-11-23T01:02:03Z"
ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="needs root")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDir]:
    with StateDir(tmp_path / "state") as opened:
        yield opened


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 kB that fills up."""
    with mounted(tmp_path / "disk", "64k") as path:
        yield path


@pytest.fixture
def larger_disk(tmp_path: Path) -> Iterator[Path]:
    """One of 256 kB, with room for a reserve."""
    with mounted(tmp_path / "disk", "256k") as path:
        yield path


@contextlib.contextmanager
def mounted(path: Path, size: str) -> Iterator[Path]:
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    if not ROOT or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs root and mount")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill_up(disk: Path) -> None:
    """Until not a page is left."""
    with (disk / "filler").open("ab", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(b"x" * 4096) == 4096:
            pass


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that open thousands of logs: the order of things is what they look at."""
    monkeypatch.setattr(history_disk, "sync_file", lambda fd: None)
    monkeypatch.setattr(history_disk, "sync_directory", lambda path: None)


def temporary_names(path: Path) -> list[str]:
    return [str(found) for found in path.rglob("*.tmp")]


# === the directory =================================================================================================


def test_opening_lays_out_what_is_missing(state: StateDir) -> None:
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in state.path.iterdir()}
    assert modes == {"revisions": 0o750, "rendered": 0o755, "run": 0o750, "quarantine": 0o700}
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o750
    StateDir(state.path).open().close()


def test_a_symlinked_directory_is_refused(state: StateDir, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(state.path)
    with pytest.raises(StateError, match="symbolic link"):
        StateDir(tmp_path / "link").open()


def test_a_directory_that_everybody_can_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    with pytest.raises(StateError, match="written by everybody"):
        StateDir(tmp_path / "state").open()


@needs_root
def test_somebody_else_s_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    os.chown(tmp_path / "state", 12345, -1)
    with pytest.raises(StateError, match="belongs to uid 12345, but this is uid 0"):
        StateDir(tmp_path / "state").open()


def test_a_file_in_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StateError, match="state: "):
        StateDir(tmp_path / "state").open()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run").symlink_to("/tmp")
    with pytest.raises(StateError, match="run is not a directory"):
        StateDir(tmp_path / "other").open()


# --- whole files


def test_what_was_written_is_read_and_absence_is_a_value(state: StateDir) -> None:
    assert state.read_bytes("rendered/nginx/nginx.conf") is None
    state.write_bytes("rendered/nginx/nginx.conf", b"one", 0o644)
    state.write_bytes("rendered/nginx/nginx.conf", b"two", 0o644)
    assert state.read_bytes("rendered/nginx/nginx.conf") == b"two"
    assert state.names("rendered/nginx") == ("nginx.conf",)
    assert stat.S_IMODE((state.path / "rendered/nginx/nginx.conf").stat().st_mode) == 0o644
    assert stat.S_IMODE((state.path / "rendered/nginx").stat().st_mode) == 0o755
    state.remove("rendered/nginx/nginx.conf")
    state.remove("rendered/nginx/nginx.conf")
    assert state.read_bytes("rendered/nginx/nginx.conf") is None
    assert state.names("nowhere") == ()


@pytest.mark.parametrize("path", ["../x", "/etc/x", "", ".", "..", "rendered/../../x", "a/..", "x\0y", "d\0/x"])
def test_nothing_is_read_or_written_outside(state: StateDir, path: str) -> None:
    for call in (lambda: state.write_bytes(path, b"x"), lambda: state.read_bytes(path), lambda: state.remove(path)):
        with pytest.raises(StateError, match="not a path inside"):
            call()


def test_a_link_leads_nowhere(state: StateDir, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    (state.path / "link").symlink_to(tmp_path / "outside" / "secret")
    (state.path / "rendered" / "folder").symlink_to(tmp_path / "outside")
    with pytest.raises(StateError, match="symbolic link"):
        state.read_bytes("link")
    with pytest.raises(StateError):
        state.read_bytes("rendered/folder/secret")
    with pytest.raises(StateError):
        state.write_bytes("rendered/folder/new", b"x")
    assert sorted(os.listdir(tmp_path / "outside")) == ["secret"]
    state.write_bytes("link", b"ours now")
    assert (tmp_path / "outside" / "secret").read_text() == "secret"
    assert state.read_bytes("link") == b"ours now"


@pytest.mark.fault("C8")
def test_a_pipe_a_device_and_a_directory_are_refused_at_once(state: StateDir) -> None:
    os.mkfifo(state.path / "pipe")
    for name in ("pipe", "rendered"):
        with pytest.raises(StateError, match="not a regular file"):
            state.read_bytes(name)
    with pytest.raises(StateError):
        state.write_bytes("rendered", b"x")
    assert temporary_names(state.path) == []


@pytest.mark.fault("C8")
def test_a_file_that_everybody_can_write_is_refused(state: StateDir) -> None:
    state.write_bytes("rollout.json", b"{}")
    (state.path / "rollout.json").chmod(0o666)
    with pytest.raises(StateError, match="written by everybody"):
        state.read_bytes("rollout.json")


def test_a_file_beyond_the_limit_is_refused(state: StateDir) -> None:
    state.write_bytes("big", b"x" * 101)
    assert state.read_bytes("big", 101) == b"x" * 101
    with pytest.raises(StateError, match="larger than 100 bytes"):
        state.read_bytes("big", 100)


def test_a_full_disk_leaves_the_old_file(tiny_disk: Path) -> None:
    with StateDir(tiny_disk / "state") as state:
        state.write_bytes("rollout.json", b"old")
        with pytest.raises(StateError, match=r"No space left.*Free some space"):
            state.write_bytes("rollout.json", b"x" * 100_000)
        assert state.read_bytes("rollout.json") == b"old"
        assert temporary_names(state.path) == []


@pytest.mark.fault("C1")
def test_a_decision_finds_room_on_a_full_disk(larger_disk: Path) -> None:
    with StateDir(larger_disk / "state") as state:
        state.save_decision("rollout.json", {"weight": 20})
        fill_up(larger_disk)
        with pytest.raises(StateError, match="No space left"):
            state.save_json("evidence.json", {"x": "y" * 8000})
        state.save_decision("rollout.json", {"weight": 0, "why": "x" * 8000})
        assert state.load_json("rollout.json").value == {"weight": 0, "why": "x" * 8000}
        fill_up(larger_disk)
        with pytest.raises(StateError, match="No space left"):
            state.save_decision("rollout.json", {"weight": 1, "why": "y" * 8000})
        (larger_disk / "filler").unlink()
        state.save_decision("rollout.json", {"weight": 2})
        assert (state.path / "reserve").stat().st_blocks * 512 >= 64 * 1024, "laid up again"


@pytest.mark.fault("C4")
@pytest.mark.parametrize("name", ["rename", "fsync", "fchmod"])
def test_a_failed_step_leaves_the_old_file(state: StateDir, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    state.write_bytes("rollout.json", b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, name, failing(errno.EIO))
        with pytest.raises(StateError, match="disk may be failing"):
            state.write_bytes("rollout.json", b"new")
    assert state.read_bytes("rollout.json") == b"old"
    assert temporary_names(state.path) == []


def failing(number: int) -> Callable[..., None]:
    def fail(*given: object, **named: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.fault("C5")
def test_a_kill_at_any_moment_leaves_the_old_file_or_the_new_one(state: StateDir) -> None:
    script = f"""
from pathlib import Path
from reconciler.adapters.state_dir import StateDir
with StateDir(Path({str(state.path)!r})) as state:
    print("ready", flush=True)
    while True:
        for letter in b"abc":
            state.write_bytes("rendered/file", bytes([letter]) * 200_000)
"""
    for _ in range(8):
        run_until_killed(script)
        content = state.read_bytes("rendered/file")
        assert content is None or content in {bytes([letter]) * 200_000 for letter in b"abc"}
    with state.lock():
        assert temporary_names(state.path) == []


def run_until_killed(script: str, wait_s: float = 0.05) -> str:
    """What the script printed before SIGKILL, which comes `wait_s` after its first line."""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    first = child.stdout.readline()
    timer = threading.Timer(wait_s, child.kill)
    timer.start()
    rest = child.stdout.read()
    assert child.wait() == -signal.SIGKILL
    timer.join()
    return first + rest


# --- JSON

plain = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(st.text(), plain | st.lists(plain)))
def test_saved_json_comes_back(state: StateDir, value: dict[str, Any]) -> None:
    state.save_json("rollout.json", value)
    assert state.load_json("rollout.json").value == value


def test_saved_json_is_for_people_too(state: StateDir) -> None:
    state.save_json("revisions/ab12.json", {"image": "sha256:77"})
    assert json.loads((state.path / "revisions/ab12.json").read_text())["state"] == {"image": "sha256:77"}
    assert state.names("revisions") == ("ab12.json",)


def test_a_missing_file_is_missing_and_not_corrupt(state: StateDir) -> None:
    loaded = state.load_json("rollout.json")
    assert (loaded.value, loaded.is_corrupt) == (None, False)


@pytest.mark.fault("C6")
def test_json_that_was_cut_off_anywhere_is_set_aside(state: StateDir) -> None:
    state.save_json("rollout.json", {"phase": "watching", "step": 3, "weight": 50.0})
    whole = state.read_bytes("rollout.json")
    assert whole is not None
    for cut in range(len(whole) - 2):
        (state.path / "rollout.json").write_bytes(whole[:cut])
        loaded = state.load_json("rollout.json")
        assert loaded.value is None
        assert loaded.is_corrupt
        assert loaded.kept_as == f"rollout.json.corrupt-{min(cut + 1, MAX_CORRUPT_KEPT)}"
        assert state.read_bytes(loaded.kept_as) == whole[:cut]
        assert state.load_json("rollout.json").is_corrupt is False


def test_json_with_any_bit_flipped_is_seen(state: StateDir) -> None:
    state.save_json("rollout.json", {"phase": "watching", "step": 3})
    whole = state.read_bytes("rollout.json")
    assert whole is not None
    for position in range(len(whole) - 2):
        flipped = bytearray(whole)
        flipped[position] ^= 1
        (state.path / "rollout.json").write_bytes(flipped)
        assert state.load_json("rollout.json").is_corrupt


@pytest.mark.fault("C6")
@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"{}", b"[" * 100_000, b"\xff\xfe", b"null", b"x" * 17_000_000])
def test_garbage_is_set_aside_and_never_raises(state: StateDir, content: bytes) -> None:
    (state.path / "rollout.json").write_bytes(content)
    loaded = state.load_json("rollout.json")
    assert (loaded.value, loaded.kept_as) == (None, "rollout.json.corrupt-1")


@pytest.mark.fault("A13", "C6")
def test_a_newer_version_s_file_is_left_alone(state: StateDir) -> None:
    body = b"{}"
    newer = b'{"format":2,"sha256":"%b","state":%b}\n' % (hashlib.sha256(body).hexdigest().encode(), body)
    (state.path / "rollout.json").write_bytes(newer)
    with pytest.raises(StateError, match=r"newer version \(format 2\)"):
        state.load_json("rollout.json")
    assert state.read_bytes("rollout.json") == newer


@pytest.mark.parametrize("value", [{"a": float("nan")}, {"a": object()}, {"a": "\udc80"}])
def test_what_json_cannot_hold_is_refused_before_anything_is_written(state: StateDir, value: dict[str, Any]) -> None:
    state.save_json("rollout.json", {"a": 1})
    with pytest.raises(StateError, match="cannot hold this state"):
        state.save_json("rollout.json", value)
    assert state.load_json("rollout.json").value == {"a": 1}


def test_the_instance_is_chosen_once(state: StateDir) -> None:
    assert state.instance_id(lambda: "f" * 16) == "f" * 16
    assert state.instance_id(lambda: "0" * 16) == "f" * 16
    (state.path / "instance").write_bytes(b"\0\0\0\0\0\0\0\0\0")
    with pytest.raises(StateError, match=r"io\.swiftdeploy\.instance"):
        state.instance_id(lambda: "0" * 16)


# --- the lock


@pytest.mark.fault("J1")
def test_a_second_lock_is_refused_and_says_who_holds_the_first(state: StateDir) -> None:
    with state.lock("reconcilerd", NOW) as held:
        assert held.still_mine()
        with pytest.raises(
            LockHeld, match=rf"another reconcilerd \(pid {os.getpid()}\) holds .*lock since {NOW}"
        ) as caught:
            state.lock()
        assert caught.value.pid == os.getpid()
        (state.path / "run/lock").write_text("garbage")
        with pytest.raises(LockHeld, match="pid unknown"):
            state.lock()
    assert not held.still_mine()
    state.lock().release()


@pytest.mark.fault("A1", "J1")
def test_a_killed_holder_holds_nothing(state: StateDir) -> None:
    script = f"""
import time
from pathlib import Path
from reconciler.adapters.state_dir import StateDir
held = StateDir(Path({str(state.path)!r})).open().lock()
print("ready", flush=True)
time.sleep(60)
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    with pytest.raises(LockHeld, match=f"pid {child.pid}"):
        state.lock()
    child.kill()
    child.wait()
    state.lock().release()


@pytest.mark.fault("J2")
def test_a_removed_lock_file_is_noticed_by_the_one_who_held_it(state: StateDir) -> None:
    first = state.lock()
    (state.path / "run/lock").unlink()
    second = state.lock()
    assert (first.still_mine(), second.still_mine()) == (False, True)


@pytest.mark.fault("J4")
def test_a_child_does_not_keep_the_lock(state: StateDir) -> None:
    held = state.lock()
    script = [sys.executable, "-c", "print('ready', flush=True); input()"]
    child = subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False)
    assert child.stdout is not None
    child.stdout.readline()
    held.release()
    state.lock().release()
    child.communicate(b"\n")


@pytest.mark.fault("C4")
def test_only_our_own_leftovers_are_removed(state: StateDir, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    ours = [".rollout.json.123-1.tmp", "rendered/.nginx.conf.1-22.tmp"]
    theirs = ["notes.tmp", ".rollout.json.tmp", "rendered/.x.1-2.tmp.keep"]
    for name in (*ours, *theirs):
        (state.path / name).write_text("x")
    (state.path / "revisions" / ".link.1-1.tmp").symlink_to(tmp_path / "precious")
    (state.path / "rendered" / "outside").symlink_to(tmp_path)
    (tmp_path / ".precious.1-1.tmp").write_text("x")
    state.lock().release()
    assert [name for name in ours if (state.path / name).exists()] == []
    assert [name for name in theirs if not (state.path / name).exists()] == []
    assert (tmp_path / ".precious.1-1.tmp").exists()
    assert (state.path / "revisions" / ".link.1-1.tmp").is_symlink()


# === the log =======================================================================================================


def history(directory: Path, **more: Any) -> HistoryFile:
    directory.mkdir(exist_ok=True)
    return HistoryFile(directory, "demo", "1.2.3", lambda: "log-1", **more)


def cycle(number: int, **more: Any) -> dict[str, Any]:
    return {"kind": "cycle", "mode": "stable", "p99_latency": 12.5, "policy": "PASS", "number": number, **more}


def filled(directory: Path, count: int = 5, **more: Any) -> HistoryFile:
    log = history(directory, **more)
    log.open(NOW)
    for number in range(count):
        log.append(cycle(number), NOW)
    return log


def kinds(directory: Path) -> list[str]:
    return [str(record["kind"]) for record in HistoryReader(directory).read()]


def numbers(directory: Path) -> list[int]:
    return [record["number"] for record in HistoryReader(directory).read() if "number" in record]


def independent_length(directory: Path) -> int:
    """All segments by hashlib and json only: how many records the chain has, or an AssertionError."""
    paths = [*sorted(directory.glob("history-*.jsonl")), directory / "history.jsonl"]
    prev, seq = "0" * 64, 0
    for line in b"".join(path.read_bytes() for path in paths).split(b"\n")[:-1]:
        record = json.loads(line)
        cut = line.replace(b'"hash":"%b",' % record["hash"].encode(), b"", 1)
        assert record["hash"] == hashlib.sha256(b"swiftdeploy-history-v1\0" + cut).hexdigest()
        assert (record["prev"], record["seq"]) == (prev, seq + 1)
        prev, seq = record["hash"], record["seq"]
    return seq


def test_a_new_log_begins_with_its_genesis(tmp_path: Path) -> None:
    log = history(tmp_path / "s")
    log.append(cycle(1), NOW)
    first, second = log.read()
    assert (first["kind"], first["log"], first["project"], first["version"]) == ("genesis", "log-1", "demo", "1.2.3")
    assert (second["number"], second["timestamp"], second["seq"]) == (1, NOW, 2)
    assert stat.S_IMODE((tmp_path / "s/history.jsonl").stat().st_mode) == 0o640
    assert independent_length(tmp_path / "s") == 2


def test_a_log_goes_on_where_it_ended(tmp_path: Path) -> None:
    filled(tmp_path / "s", 3).close()
    log = history(tmp_path / "s")
    assert log.open(NOW).seq == 4
    link = log.append(cycle(3, timestamp="2026-11-23T09:00:00Z"))
    assert link.seq == 5
    assert list(log.read())[-1]["timestamp"] == "2026-11-23T09:00:00Z"
    assert numbers(tmp_path / "s") == [0, 1, 2, 3]
    assert log.verify(full=True, expected=link).is_whole


# --- crashes


@pytest.mark.fault("A16", "C5", "C7")
@pytest.mark.usefixtures("no_sync")
def test_a_crash_at_any_byte_loses_what_was_torn_and_nothing_else(tmp_path: Path) -> None:
    filled(tmp_path / "s", 6).close()
    whole = (tmp_path / "s/history.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in range(len(b"".join(lines[:-3])), len(whole)):
        again(tmp_path / "t", whole[:cut])
        log = history(tmp_path / "t")
        log.open(NOW)
        kept = [line for line in lines if cut >= len(b"".join(lines[: lines.index(line) + 1]))]
        torn = whole[len(b"".join(kept)) : cut]
        assert log.verify().is_whole
        assert log.read().__next__()["kind"] == "genesis"
        assert numbers(tmp_path / "t") == list(range(len(kept) - 1))
        if torn:
            last = log.tail(1)[0]
            assert (last["kind"], last["bytes"]) == ("history_recovered", len(torn))
            assert (tmp_path / "t" / str(last["kept_as"])).read_bytes() == torn
            assert last["sha256"] == hashlib.sha256(torn).hexdigest()
        assert log.damage() == []
        log.close()


def again(directory: Path, content: bytes) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    (directory / "history.jsonl").write_bytes(content)


@pytest.mark.fault("A16", "C7")
@pytest.mark.parametrize("zeros", [1, 4095, 4096, 65_535, 65_536])
def test_zeros_at_the_end_are_torn(tmp_path: Path, zeros: int) -> None:
    filled(tmp_path / "s", 3).close()
    with (tmp_path / "s/history.jsonl").open("ab") as file:
        file.write(b"\0" * zeros)
    log = history(tmp_path / "s")
    log.open(NOW)
    assert kinds(tmp_path / "s")[-1] == "history_recovered"
    assert independent_length(tmp_path / "s") == 5


@pytest.mark.fault("C7")
@pytest.mark.parametrize("zeros", [65_537, 65_538, 100_000, 131_072, 131_073, 1_000_000])
def test_more_rubbish_than_a_crash_leaves_is_kept_and_said(tmp_path: Path, zeros: int) -> None:
    filled(tmp_path / "s", 3).close()
    with (tmp_path / "s/history.jsonl").open("ab") as file:
        file.write(b"\0" * zeros)
    log = history(tmp_path / "s")
    log.open(NOW)
    assert [record["kind"] for record in log.damage()] == ["history_corrupt"]
    assert (tmp_path / "s/history-000001.jsonl").stat().st_size > zeros
    assert log.append(cycle(3), NOW).seq == 6


@pytest.mark.fault("C7")
def test_a_log_torn_in_its_first_record_begins_anew(tmp_path: Path) -> None:
    again(tmp_path / "s", b'{"hash":"abc')
    log = history(tmp_path / "s")
    log.open(NOW)
    assert kinds(tmp_path / "s") == ["genesis", "history_recovered"]


APPENDER = """
import sys
from pathlib import Path
from reconciler.adapters.history_file import HistoryFile
log = HistoryFile(Path(sys.argv[1]), "demo", "1", lambda: "id", int(sys.argv[2]))
log.open("2026-11-23T01:02:03Z")
number = int(sys.argv[3])
print(number, flush=True)
while True:
    log.append({"kind": "cycle", "number": number, "pad": "x" * (number % 977)}, "2026-11-23T01:02:03Z")
    print(number, flush=True)
    number += 1
"""


@pytest.mark.fault("C5")
def test_a_kill_at_any_moment_loses_no_record_that_was_promised(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    start = 0
    for round_ in range(10):
        script = APPENDER.replace("sys.argv[1]", repr(str(tmp_path / "s")))
        script = script.replace("sys.argv[2]", "20_000").replace("sys.argv[3]", str(start))
        printed = run_until_killed(script, 0.02 + round_ / 100)
        promised = [int(word) for word in printed.split("\n")[1:-1] if word]
        log = history(tmp_path / "s")
        log.open(NOW)
        there = numbers(tmp_path / "s")
        assert there == sorted(set(there))
        assert set(promised) <= set(there)
        assert len([number for number in there if number >= start]) <= len(promised) + 1
        assert log.verify(full=True).is_whole
        assert log.damage() == []
        start = max(there, default=-1) + 1
        log.close()
    assert len(list((tmp_path / "s").glob("history-*.jsonl"))) >= 1
    assert independent_length(tmp_path / "s") > start


class Died(BaseException):
    """What a SIGKILL is to the code that it stops: nothing after it happens."""


class DyingOs:
    """`os`, until the n-th call that would change something; then nothing changes any more."""

    changing = frozenset({"write", "rename", "unlink", "ftruncate", "fchmod", "chmod", "fdatasync"})

    def __init__(self, calls_left: int) -> None:
        self.left = calls_left

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return self.counted(real) if name in self.changing else real

    def counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Died
            return real(*given, **named)

        return call


@pytest.mark.fault("C5")
@pytest.mark.usefixtures("no_sync")
@pytest.mark.parametrize("limit", [10_000_000, 1_000], ids=["one segment", "rotating"])
def test_a_crash_before_any_step_of_writing_and_rotating_is_recovered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    for calls in range(80):
        shutil.rmtree(tmp_path / "s", ignore_errors=True)
        promised = []
        with monkeypatch.context() as patch:
            dying = DyingOs(calls)
            patch.setattr(history_disk, "os", dying)
            try:
                log = history(tmp_path / "s", max_segment_bytes=limit)
                for number in range(12):
                    log.append(cycle(number, pad="x" * 100), NOW)
                    promised.append(number)
            except Died:
                pass
        for _ in range(2):
            log = history(tmp_path / "s", max_segment_bytes=limit)
            log.open(NOW)
            there = numbers(tmp_path / "s")
            assert there == list(range(len(there)))
            assert len(promised) <= len(there) <= len(promised) + 1
            assert log.damage() == []
            assert log.verify().is_whole
            log.close()
        assert independent_length(tmp_path / "s") >= len(promised) + 1


@pytest.mark.usefixtures("no_sync")
def test_an_interrupt_between_write_and_sync_is_nobody_s_tampering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = filled(tmp_path / "s", 2)
    with monkeypatch.context() as patch:
        patch.setattr(history_disk, "sync_file", lambda fd: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            log.append(cycle(2), NOW)
    log.append(cycle(3), NOW)
    assert numbers(tmp_path / "s") == [0, 1, 2, 3]
    assert log.damage() == []


def test_a_segment_that_was_begun_and_not_used_is_gone_after_the_start(tmp_path: Path) -> None:
    filled(tmp_path / "s", 2).close()
    (tmp_path / "s/history.jsonl.next").write_text("stale")
    history(tmp_path / "s").open(NOW)
    assert not (tmp_path / "s/history.jsonl.next").exists()
    assert independent_length(tmp_path / "s") == 3


# --- somebody changed it while nobody looked


@pytest.mark.fault("C7")
@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [*lines[:2], lines[2].replace(b"PASS", b"FAIL"), *lines[3:]],
        lambda lines: [*lines[:2], *lines[3:]],
        lambda lines: [*lines[:3], *lines[2:]],
        lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]],
        lambda lines: [*lines[:2], b"\0" * 500 + b"\n", *lines[3:]],
        lambda lines: [*lines[:-1], lines[-1].replace(b"PASS", b"FAIL")],
        lambda lines: [*lines, b"appended by hand\n"],
    ],
    ids=["edited", "deleted", "duplicated", "swapped", "zeroed", "last edited", "appended"],
)
def test_a_changed_log_is_kept_and_goes_on_in_a_new_segment(
    tmp_path: Path, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    filled(tmp_path / "s").close()
    path = tmp_path / "s/history.jsonl"
    changed = b"".join(change(path.read_bytes().splitlines(keepends=True)))
    path.write_bytes(changed)
    log = history(tmp_path / "s")
    log.open(NOW)
    log.append(cycle(9), NOW)
    assert (tmp_path / "s/history-000001.jsonl").read_bytes() == changed
    assert [record["kind"] for record in log.damage()] == ["history_corrupt"]
    assert log.damage()[0]["previous"] == "history-000001.jsonl"
    breaks = log.verify().breaks
    assert breaks >= 1
    log.close()
    log.open(NOW)
    assert len(log.damage()) == 1
    assert log.verify().breaks == breaks


@pytest.mark.fault("C7")
def test_a_log_that_was_shortened_is_seen_by_whoever_kept_a_link(tmp_path: Path) -> None:
    log = filled(tmp_path / "s")
    kept = log.link
    log.close()
    path = tmp_path / "s/history.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    log = history(tmp_path / "s")
    assert log.open(NOW, kept) == Link(7, log.tail(1)[0]["hash"])
    assert "record 6 had been written" in str(log.damage()[0]["reason"])


@pytest.mark.fault("C7")
def test_a_removed_log_is_seen_where_segments_or_a_link_remain(tmp_path: Path) -> None:
    log = filled(tmp_path / "s", 12, max_segment_bytes=1_000)
    kept = log.link
    log.close()
    (tmp_path / "s/history.jsonl").unlink()
    log.open(NOW)
    assert "history.jsonl is missing" in str(log.damage()[0]["reason"])
    log.close()
    shutil.rmtree(tmp_path / "s")
    log = history(tmp_path / "s")
    assert log.open(NOW, kept).seq == kept.seq + 1
    assert log.damage()[0]["kind"] == "history_corrupt"


def test_a_log_of_nothing_but_rubbish_is_kept_and_a_new_one_begins(tmp_path: Path) -> None:
    again(tmp_path / "s", b"rubbish\n" * 100)
    log = history(tmp_path / "s")
    log.open(NOW)
    first = next(iter(log.damage()))
    assert (first["kind"], first["seq"], first["log"]) == ("history_corrupt", 1, "log-1")
    assert (tmp_path / "s/history-000001.jsonl").read_bytes() == b"rubbish\n" * 100


@pytest.mark.fault("C8")
def test_a_link_a_pipe_and_everybody_s_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.symlink_to("/etc/passwd")
    with pytest.raises(StateError, match="symbolic link"):
        history(tmp_path).open(NOW)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StateError, match="not a regular file"):
        history(tmp_path).open(NOW)
    with pytest.raises(StateError, match="not a regular file"):
        history(tmp_path).tail(1)
    path.unlink()
    path.write_text("")
    path.chmod(0o646)
    with pytest.raises(StateError, match="written by everybody"):
        history(tmp_path).open(NOW)


@needs_root
def test_somebody_else_s_log_is_refused_for_writing_and_can_be_read(tmp_path: Path) -> None:
    filled(tmp_path / "s", 1).close()
    os.chown(tmp_path / "s/history.jsonl", 12345, -1)
    with pytest.raises(StateError, match="belongs to uid 12345"):
        history(tmp_path / "s").open(NOW)
    assert len(HistoryReader(tmp_path / "s").tail(9)) == 2


# --- somebody changes it while we write


def replace_with(path: Path, content: bytes) -> None:
    """As an editor or `sed -i` does: a new file under the old name."""
    path.with_name("edited").write_bytes(content)
    path.with_name("edited").rename(path)


@pytest.mark.fault("C13")
def test_a_removed_file_comes_back_whole(tmp_path: Path) -> None:
    log = filled(tmp_path / "s", 3)
    (tmp_path / "s/history.jsonl").unlink()
    log.append(cycle(3), NOW)
    assert numbers(tmp_path / "s") == [0, 1, 2, 3]
    assert [record["kind"] for record in log.damage()] == ["history_tampered"]
    assert independent_length(tmp_path / "s") == 6


@pytest.mark.fault("C13")
def test_a_file_edited_by_replacing_it_is_undone_and_the_edit_is_kept(tmp_path: Path) -> None:
    log = filled(tmp_path / "s", 3)
    path = tmp_path / "s/history.jsonl"
    edited = path.read_bytes().replace(b"PASS", b"FAIL")
    replace_with(path, edited)
    log.append(cycle(3), NOW)
    (damage,) = log.damage()
    assert (tmp_path / "s" / str(damage["replaced_by"])).read_bytes() == edited
    assert independent_length(tmp_path / "s") == 6


@pytest.mark.fault("C8", "C13")
@pytest.mark.parametrize("stranger", ["symlink", "pipe", "directory"])
def test_whatever_was_put_in_its_place_is_moved_away(tmp_path: Path, stranger: str) -> None:
    log = filled(tmp_path / "s", 3)
    path = tmp_path / "s/history.jsonl"
    path.unlink()
    {"symlink": lambda: path.symlink_to("/etc/passwd"), "pipe": lambda: os.mkfifo(path), "directory": path.mkdir}[
        stranger
    ]()
    log.append(cycle(3), NOW)
    assert log.damage()[0]["replaced_by"] == "quarantine/replaced-4-1"
    assert independent_length(tmp_path / "s") == 6


@pytest.mark.fault("C13")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda path: os.truncate(path, 300), "was cut off by another: 300 bytes"),
        (lambda path: os.truncate(path, 0), "was cut off by another: 0 bytes"),
        (lambda path: path.open("ab").write(b"by hand\n"), "was written to by another"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"PASS", b"FAIL")), "was changed by another: line 2"),
    ],
    ids=["cut", "emptied", "appended", "edited in place"],
)
def test_a_change_in_place_is_recorded_at_the_next_append(
    tmp_path: Path, change: Callable[[Path], object], says: str
) -> None:
    log = filled(tmp_path / "s", 3)
    change(tmp_path / "s/history.jsonl")
    log.append(cycle(3), NOW)
    (damage,) = log.damage()
    assert damage["kind"] == "history_tampered"
    assert says in str(damage["reason"])
    assert not log.verify().is_whole
    assert log.append(cycle(4), NOW).seq == 7
    log.close()
    log.open(NOW)
    assert len(log.damage()) == 1


def test_touching_the_file_is_no_tampering(tmp_path: Path) -> None:
    log = filled(tmp_path / "s", 3)
    os.utime(tmp_path / "s/history.jsonl", (1, 1))
    (tmp_path / "s/history.jsonl").chmod(0o600)
    log.append(cycle(3), NOW)
    assert log.damage() == []
    assert numbers(tmp_path / "s") == [0, 1, 2, 3]


# --- full and failing disks


@pytest.mark.fault("C1")
def test_a_full_disk_tears_nothing_and_is_caught_up_with_later(tiny_disk: Path) -> None:
    log = filled(tiny_disk / "s", 0)
    ballast = tiny_disk / "ballast"
    ballast.write_bytes(b"x" * 40_000)
    number = failed = 0
    while failed < 5:
        try:
            log.append(cycle(number, pad="p" * 700), NOW)
            assert not failed
        except StateError as error:
            failed += 1
            said = str(error)
        assert (tiny_disk / "s/history.jsonl").read_bytes().endswith(b"\n")
        assert log.verify().is_whole
        number += 1
    assert "Free some space" in said
    assert "(5 records wait in memory)" in said
    ballast.unlink()
    log.append(cycle(number), NOW)
    assert numbers(tiny_disk / "s") == list(range(number + 1))
    late = [record["number"] for record in log.read() if record.get("late")]
    assert late == list(range(number - failed, number))
    (recovered,) = [record for record in log.read() if record["kind"] == "storage_recovered"]
    assert (recovered["written_late"], recovered["dropped"]) == (5, 0)
    assert "No space left" in str(recovered["reason"]) or "bytes could be written" in str(recovered["reason"])
    assert log.waiting == 0
    assert log.damage() == []
    assert independent_length(tiny_disk / "s") == number + 3


def test_a_removed_file_is_restored_when_there_is_room_again(tiny_disk: Path) -> None:
    log = filled(tiny_disk / "s", 30)
    (tiny_disk / "s/history.jsonl").unlink()
    (tiny_disk / "ballast").write_bytes(b"x" * 45_000)
    for number in (30, 31):
        with pytest.raises(StateError, match="Free some space"):
            log.append(cycle(number), NOW)
    (tiny_disk / "ballast").unlink()
    log.append(cycle(32), NOW)
    assert numbers(tiny_disk / "s") == list(range(33))
    assert independent_length(tiny_disk / "s") == 36


def fill(path: Path) -> None:
    """Take all there is left."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(fd, b"x" * 4096)
    os.close(fd)


@pytest.mark.fault("C1")
def test_a_log_opened_on_a_full_disk_begins_when_there_is_room(tiny_disk: Path) -> None:
    (tiny_disk / "s").mkdir()
    fill(tiny_disk / "ballast")
    log = history(tiny_disk / "s")
    for number in range(MAX_WAITING + 10):
        with pytest.raises(StateError, match="Free some space"):
            log.append(cycle(number), NOW)
    assert log.waiting == MAX_WAITING
    subprocess.run(["mount", "-o", "remount,size=1m", str(tiny_disk)], check=True)
    log.append(cycle(-1), NOW)
    recovered = log.tail(2)[0]
    assert (recovered["kind"], recovered["written_late"], recovered["dropped"]) == (
        "storage_recovered",
        MAX_WAITING,
        10,
    )
    assert numbers(tiny_disk / "s")[:1] == [10]


def test_a_torn_tail_is_recovered_although_the_disk_was_full_when_it_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path / "s", 2).close()
    with (tmp_path / "s/history.jsonl").open("ab") as file:
        file.write(b"torn")
    log = history(tmp_path / "s")
    real, full = history_disk.write_whole, failing(errno.ENOSPC)
    with monkeypatch.context() as patch:
        patch.setattr(history_disk, "write_whole", lambda fd, line: real(fd, line) if line == b"torn" else full())
        with pytest.raises(StateError):
            log.open(NOW)
    log.append(cycle(2), NOW)
    assert kinds(tmp_path / "s") == ["genesis", "cycle", "cycle", "history_recovered", "cycle"]


@pytest.mark.fault("C1")
def test_a_short_write_is_undone(tmp_path: Path) -> None:
    """A real one: the process may not make files longer than 2000 bytes."""
    script = f"""
import resource
from pathlib import Path
from reconciler.adapters.history_file import HistoryFile
from reconciler.core.errors import StateError
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
path = Path({str(tmp_path)!r})
log = HistoryFile(path, "demo", "1", lambda: "id")
for number in range(20):
    try:
        log.append({{"kind": "cycle", "number": number}}, "{NOW}")
    except StateError as error:
        print(error)
        break
assert (path / "history.jsonl").read_bytes().endswith(b"\\n")
assert log.verify().is_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.append({{"kind": "cycle", "number": number + 1}}, "{NOW}")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "bytes could be written" in done.stdout
    there = numbers(tmp_path)
    assert there == list(range(len(there)))
    assert "storage_recovered" in kinds(tmp_path)


def failing_syncs(times: int) -> Callable[[int], None]:
    left = [times]

    def sync(fd: int) -> None:
        if left[0] > 0:
            left[0] -= 1
            raise OSError(errno.EIO, "Input/output error")

    return sync


@pytest.mark.fault("C3")
def test_a_failed_sync_ends_the_segment_and_the_record_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = filled(tmp_path / "s", 2)
    with monkeypatch.context() as patch:
        patch.setattr(history_disk, "sync_file", failing_syncs(1))
        log.append(cycle(2), NOW)
    log.append(cycle(3), NOW)
    assert numbers(tmp_path / "s") == [0, 1, 2, 3]
    start = next(record for record in log.read() if record["kind"] == "segment_start")
    assert start["reason"] == "sync failed: Input/output error"
    assert independent_length(tmp_path / "s") == 6
    assert log.damage() == []


@pytest.mark.fault("C3")
def test_a_file_whose_sync_failed_is_never_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = filled(tmp_path / "s", 2)
    inode = (tmp_path / "s/history.jsonl").stat().st_ino
    with monkeypatch.context() as patch:
        patch.setattr(history_disk, "sync_file", failing_syncs(3))
        with pytest.raises(StateError, match="disk may be failing"):
            log.append(cycle(2), NOW)
    log.append(cycle(3), NOW)
    assert (tmp_path / "s/history.jsonl").stat().st_ino != inode
    assert numbers(tmp_path / "s") == [0, 1, 2, 3]
    assert independent_length(tmp_path / "s") == 7


@pytest.mark.fault("C3")
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_a_sync_that_the_kernel_fails_ends_the_segment(tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from reconciler.adapters.history_file import HistoryFile
log = HistoryFile(Path({str(tmp_path)!r}), "demo", "1", lambda: "id")
for number in range(6):
    log.append({{"kind": "cycle", "number": number}}, "{NOW}")
"""
    inject = ["strace", "-f", "-o", "/dev/null", "-e", "inject=fdatasync:error=EIO:when=4"]
    done = subprocess.run([*inject, sys.executable, "-c", script], capture_output=True, text=True, check=False)
    if "ptrace" in done.stderr or "Operation not permitted" in done.stderr:
        pytest.skip("may not trace here")
    assert done.returncode == 0, done.stderr
    assert numbers(tmp_path) == list(range(6))
    assert "segment_start" in kinds(tmp_path)
    assert independent_length(tmp_path) == 8


@pytest.mark.fault("C2")
def test_a_read_only_directory_is_said_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = filled(tmp_path / "s", 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing(errno.EROFS))
        with pytest.raises(StateError, match="Read-only file system"):
            log.append(cycle(1), NOW)
    log.append(cycle(2), NOW)
    assert numbers(tmp_path / "s") == [0, 1, 2]


# --- segments and readers


@pytest.mark.usefixtures("no_sync")
def test_the_chain_goes_on_through_rotation(tmp_path: Path) -> None:
    log = filled(tmp_path / "s", 60, max_segment_bytes=2_000)
    finished = log.finished()
    assert len(finished) > 5
    assert finished[0].name == "history-000001.jsonl"
    assert {stat.S_IMODE(path.stat().st_mode) for path in finished} == {0o440}
    assert all(path.stat().st_size <= 2_000 for path in finished)
    assert numbers(tmp_path / "s") == list(range(60))
    assert log.verify(full=True).is_whole
    assert independent_length(tmp_path / "s") == 61 + len(finished)


@pytest.mark.fault("C7")
def test_a_missing_segment_is_a_break(tmp_path: Path) -> None:
    log = filled(tmp_path / "s", 30, max_segment_bytes=2_000)
    log.finished()[1].unlink()
    report = log.verify()
    assert report.breaks == 1
    assert "follows record" in report.first_break.reason


@pytest.mark.usefixtures("no_sync")
def test_readers_start_anywhere(tmp_path: Path) -> None:
    log = filled(tmp_path / "s", 40, max_segment_bytes=2_000)
    everything = list(log.read())
    last = everything[-1]["seq"]
    assert [record["seq"] for record in everything] == list(range(1, last + 1))
    for seq in range(1, last + 2):
        assert list(log.read(seq)) == everything[seq - 1 :]
    for count in range(last + 3):
        assert log.tail(count) == everything[-count or last :]
    assert list(log.read(last + 100)) == []


def follow(reader: HistoryReader, position: Position, seen: list[Any]) -> Position:
    """The position behind all there is; every record's number goes into `seen`."""
    for record, behind in reader.follow(position):
        assert "odd" not in record
        seen.append(record["seq"])
        position = behind
    return position


@pytest.mark.usefixtures("no_sync")
def test_a_follower_sees_every_record_once(tmp_path: Path) -> None:
    log = history(tmp_path / "s", max_segment_bytes=1_500)
    log.open(NOW)
    position, seen = START, []
    for number in range(40):
        log.append(cycle(number), NOW)
        if number % 3 == 0:
            position = follow(log, position, seen)
    position = follow(log, position, seen)
    assert seen == list(range(1, log.link.seq + 1))
    assert list(log.follow(position)) == []


def test_a_reader_beside_the_writer_sees_whole_records_in_order(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    script = APPENDER.replace("sys.argv[1]", repr(str(tmp_path / "s"))).replace("sys.argv[2]", "4_000")
    child = subprocess.Popen([sys.executable, "-c", script.replace("sys.argv[3]", "0")], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    reader, position, seen = HistoryReader(tmp_path / "s"), START, []
    drain = threading.Thread(target=child.stdout.read)
    drain.start()
    while len(seen) < 600:
        position = follow(reader, position, seen)
        assert all("odd" not in record for record in reader.tail(3))
    child.kill()
    child.wait()
    drain.join()
    assert seen == list(range(1, len(seen) + 1))


def test_a_line_that_is_still_being_written_is_not_there_yet(tmp_path: Path) -> None:
    log = filled(tmp_path / "s", 2)
    *_, (_, position) = log.follow()
    line = (tmp_path / "s/history.jsonl").read_bytes().splitlines(keepends=True)[-1]
    with (tmp_path / "s/history.jsonl").open("ab") as file:
        file.write(line[:100])
        file.flush()
        assert list(log.follow(position)) == []
        assert log.tail(1)[0]["number"] == 1
        file.write(line[100:])
        file.flush()
        assert [record["number"] for record, _ in log.follow(position)] == [1]


def test_odd_lines_are_read_as_odd(tmp_path: Path) -> None:
    log = filled(tmp_path / "s", 3)
    log.close()
    path = tmp_path / "s/history.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([b"\xff rubbish\n", lines[0], lines[1].replace(b"PASS", b"FAIL"), b"\n", lines[2]]))
    read = list(log.read())
    assert ["odd" in record for record in read] == [True, False, True, True, False]
    assert log.tail(2) == read[-2:]


def test_the_longest_records_are_lines_like_others(tmp_path: Path) -> None:
    log = filled(tmp_path / "s", 1)
    longest = MAX_LINE_BYTES - len(log.tail(1)[0]["hash"]) * 2 - 130
    for length in range(longest, longest + 60):
        log.append({"kind": "cycle", "logs": "x" * length}, NOW)
    sizes = [len(line) for line in (tmp_path / "s/history.jsonl").read_bytes().splitlines(keepends=True)]
    assert MAX_LINE_BYTES in sizes
    assert log.verify(full=True).is_whole
    assert not any("odd" in record for record in log.tail(70))
    log.close()
    log.open(NOW)
    assert log.damage() == []


def test_an_empty_directory_has_no_history(tmp_path: Path) -> None:
    reader = HistoryReader(tmp_path)
    assert (list(reader.read()), reader.tail(5), reader.damage(), reader.verify().lines) == ([], [], [], 0)


def test_a_line_beyond_every_limit_fills_no_memory(tmp_path: Path) -> None:
    filled(tmp_path / "s", 2).close()
    with (tmp_path / "s/history.jsonl").open("ab") as file:
        file.truncate(700_000_000)
    script = f"""
import resource
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (400_000_000, 400_000_000))
from reconciler.adapters.history_file import HistoryFile
log = HistoryFile(Path({str(tmp_path / "s")!r}), "demo", "1", lambda: "id")
print(log.open("{NOW}").seq, log.damage()[0]["kind"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("4 history_corrupt\n", "")


def test_links_can_be_kept_and_checked(tmp_path: Path) -> None:
    log = filled(tmp_path / "s", 3)
    last = (tmp_path / "s/history.jsonl").read_bytes().splitlines()[-1]
    assert check(last, None) == log.link
