"""Checkpoints: when they are written, who signs them, and that no trouble with a key costs a record."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from history_tools import Watch, failing, fill, independent_length, kinds, log, needs_ssh_keygen, numbers, signed

from reconciler.adapters import history_disk, history_key
from reconciler.adapters.history_checkpoints import Checkpoints
from reconciler.adapters.history_file import HistoryFile, HistoryReader
from reconciler.adapters.history_key import CREDENTIAL, HistoryKey, given_key
from reconciler.adapters.state_dir import StateDir
from reconciler.core.errors import StateError
from reconciler.formats.history_checkpoint import public_line
from reconciler.formats.history_verdict import Verdict, judge


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of things is what these tests look at; `test_history_crashes` is about what is on the disk."""
    monkeypatch.setattr(history_disk, "sync_file", lambda fd: None)
    monkeypatch.setattr(history_disk, "sync_directory", lambda path: None)


def verdict(directory: Path) -> Verdict:
    return judge(HistoryReader(directory).segments(), None, full=True)


def checkpoints(directory: Path) -> list[tuple[int, str]]:
    found = HistoryReader(directory).read()
    return [(record["seq"], record["reason"]) for record in found if record["kind"] == "checkpoint"]


# --- when


def test_a_checkpoint_follows_so_many_records(tmp_path: Path) -> None:
    made = log(tmp_path / "s", every=4)
    fill(made, 10)
    assert checkpoints(tmp_path / "s") == [(5, "records"), (10, "records")]
    made.close()
    assert checkpoints(tmp_path / "s")[2:] == [(14, "closed")]
    assert numbers(tmp_path / "s") == list(range(10))
    assert independent_length(tmp_path / "s") == 14


def test_a_checkpoint_follows_the_first_record_after_so_long(tmp_path: Path) -> None:
    clock = Watch()
    (tmp_path / "s").mkdir()
    made = HistoryFile(tmp_path / "s", "demo", "1", lambda: "id", checkpoints=Checkpoints(lambda _: "eA==", clock))
    fill(made, 3)
    clock.now += 299
    fill(made, 1)
    assert checkpoints(tmp_path / "s") == []
    clock.now += 1
    fill(made, 1)
    clock.now += 1_000_000
    assert checkpoints(tmp_path / "s") == [(7, "time")]
    made.close()
    assert len(checkpoints(tmp_path / "s")) == 1, "nothing was written since"


def test_a_finished_segment_ends_with_a_checkpoint_and_is_no_larger_than_allowed(tmp_path: Path) -> None:
    made = log(tmp_path / "s", size=4_000, every=1000)
    fill(made, 40)
    assert len(made.finished()) > 3
    for path in made.finished():
        assert b'"kind":"checkpoint"' in path.read_bytes().splitlines()[-1]
        assert path.stat().st_size <= 4_000
    assert {reason for _, reason in checkpoints(tmp_path / "s")} == {"segment"}


def test_without_checkpoints_there_are_none(tmp_path: Path) -> None:
    made = log(tmp_path / "s", size=2_000)
    fill(made, 20)
    made.close()
    assert checkpoints(tmp_path / "s") == []


# --- who


@needs_ssh_keygen
@pytest.mark.control("K16")
def test_a_key_is_made_once_for_nobody_else_to_read_and_never_leaves(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        signed(tmp_path / "s", 20)
    finally:
        os.umask(old)
    key = tmp_path / "s/history-key"
    private = key.read_bytes()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "s/history.pub").stat().st_mode) == 0o644
    (signer,) = verdict(tmp_path / "s").vouched.signers
    assert signer.count == 3
    signed(tmp_path / "s", 10)
    assert key.read_bytes() == private
    assert len(verdict(tmp_path / "s").vouched.signers) == 1
    secret_lines = private.splitlines()[2:-1]
    everything = b"".join(path.read_bytes() for path in (tmp_path / "s").glob("history*") if path != key)
    assert not any(line in everything for line in secret_lines)
    assert not [path for path in (tmp_path / "s").iterdir() if path.name.startswith(".")]


@needs_ssh_keygen
def test_a_key_that_is_given_is_used_and_only_its_public_half_is_published(tmp_path: Path) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    given = folder / CREDENTIAL
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", given], check=True)
    assert given_key({"CREDENTIALS_DIRECTORY": str(folder)}) == given
    assert given_key({}) is None
    assert given_key({"CREDENTIALS_DIRECTORY": str(tmp_path)}) is None
    (tmp_path / "s").mkdir()
    (tmp_path / "s/history.pub").write_text("ssh-ed25519 of an earlier key\n")
    made = log(tmp_path / "s", every=4, sign=HistoryKey(tmp_path / "s", given).sign)
    fill(made, 8)
    made.close()
    assert not (tmp_path / "s/history-key").exists()
    published = HistoryKey(tmp_path / "s").public()
    assert published is not None
    assert Path(f"{given}.pub").read_text().startswith(published)


@needs_ssh_keygen
def test_a_lost_key_is_replaced_and_the_log_shows_both(tmp_path: Path) -> None:
    signed(tmp_path / "s", 10)
    (tmp_path / "s/history-key").unlink()
    signed(tmp_path / "s", 10)
    assert len(verdict(tmp_path / "s").vouched.signers) == 2
    assert verdict(tmp_path / "s").vouched.bad_count == 0


class Died(BaseException):
    """What a SIGKILL is to the code that it stops."""


class DyingOs:
    """`os`, until the n-th call that changes something; then nothing changes any more."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __getattr__(self, name: str) -> Any:
        if name in ("link", "rename", "write", "fchmod", "fsync"):
            self.left -= 1
            if self.left < 0:
                raise Died
        return getattr(os, name)


@needs_ssh_keygen
@pytest.mark.fault("C5")
def test_a_crash_while_the_key_is_made_leaves_none_or_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for calls in range(7):
        folder = tmp_path / str(calls)
        with StateDir(folder), monkeypatch.context() as patch:
            patch.setattr(history_key, "os", DyingOs(calls))
            with suppress(Died):
                HistoryKey(folder).sign(b"")
        before = (folder / "history-key").read_bytes() if (folder / "history-key").exists() else None
        with StateDir(folder) as opened, opened.lock():
            signed(folder, 2)
        assert before in (None, (folder / "history-key").read_bytes())
        (signer,) = verdict(folder).vouched.signers
        assert public_line(signer.key) == HistoryKey(folder).public()
        assert not list(folder.glob(".*.tmp"))


# --- trouble with keys


def unsigned_reason(tmp_path: Path, key: HistoryKey) -> str:
    """Why the checkpoints of a log have no signature; every record is there all the same."""
    made = log(tmp_path / "s", every=3, sign=key.sign)
    fill(made, 7)
    made.close()
    assert numbers(tmp_path / "s") == list(range(7))
    found = verdict(tmp_path / "s")
    assert (found.vouched.signers, found.vouched.unsigned, found.chain.breaks) == ((), 3, 0)
    return found.vouched.unsigned_reason


@pytest.mark.control("K16")
def test_without_ssh_keygen_checkpoints_say_so(tmp_path: Path) -> None:
    key = HistoryKey(tmp_path / "s", program="ssh-keygen-that-is-not-there")
    assert "is not installed" in unsigned_reason(tmp_path, key)


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("#!/bin/sh\nsleep 60\n", "did not answer within"),
        ("#!/bin/sh\necho no such luck >&2; exit 255\n", "no such luck"),
        ('#!/bin/sh\nfor last; do :; done; echo > "$last"\n', "gave no Ed25519 signature"),
        ("no program at all", "could not be started"),
    ],
    ids=["hangs", "fails", "answers nonsense", "is no program"],
)
def test_a_signing_program_in_trouble_costs_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, says: str
) -> None:
    if "sleep" in program:  # the others may take their time on a loaded machine
        monkeypatch.setattr(history_key, "TIMEOUT_S", 0.2)
    path = tmp_path / "ssh-keygen"
    path.write_text(program)
    path.chmod(0o755)
    assert says in unsigned_reason(tmp_path, HistoryKey(tmp_path / "s", program=str(path)))


@needs_ssh_keygen
@pytest.mark.parametrize("kind", ["passphrase", "not a key", "rsa", "symbolic link", "missing"])
def test_a_key_that_cannot_be_used_costs_no_record(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "given"
    make = ["ssh-keygen", "-q", "-f", str(path)]
    if kind == "passphrase":
        subprocess.run([*make, "-t", "ed25519", "-N", "secret words"], check=True)
    elif kind == "rsa":
        subprocess.run([*make, "-t", "rsa", "-b", "1024", "-N", ""], check=True)
    elif kind == "not a key":
        path.write_text("rubbish\n")
        path.chmod(0o600)
    if kind == "symbolic link":
        (tmp_path / "s").mkdir()
        (tmp_path / "s/history-key").symlink_to("/etc/passwd")
        assert "is a symbolic link" in unsigned_reason(tmp_path, HistoryKey(tmp_path / "s"))
    else:
        assert unsigned_reason(tmp_path, HistoryKey(tmp_path / "s", path))


# --- trouble with the disk, when the record itself is safe already


@pytest.mark.fault("C1", "C2")
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_checkpoint_that_cannot_be_written_fails_no_record_and_writes_none_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    made = log(tmp_path / "s", every=3)
    fill(made, 1)
    real, full = history_disk.write_whole, failing(error)
    with monkeypatch.context() as patch:
        patch.setattr(
            history_disk, "write_whole", lambda fd, line: (full if b'"checkpoint"' in line else real)(fd, line)
        )
        fill(made, 3, start=1)
    fill(made, 1, start=4)
    made.close()
    assert numbers(tmp_path / "s") == list(range(5))
    assert independent_length(tmp_path / "s") == len(kinds(tmp_path / "s"))
    assert [reason for _, reason in checkpoints(tmp_path / "s")] == ["records"]


@pytest.mark.fault("C3")
def test_a_checkpoint_whose_sync_fails_ends_the_segment_like_any_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = log(tmp_path / "s", every=2)
    real, calls = history_disk.sync_file, []

    def sync(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 3:  # the genesis, the first record, and now the checkpoint
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    with monkeypatch.context() as patch:
        patch.setattr(history_disk, "sync_file", sync)
        fill(made, 1)
    fill(made, 1, start=1)
    assert numbers(tmp_path / "s") == [0, 1]
    starts = [record for record in made.read() if record["kind"] == "segment_start"]
    assert [start["reason"] for start in starts] == ["sync failed: Input/output error"]
    assert independent_length(tmp_path / "s") == made.link.seq


def test_closing_signs_nothing_where_the_log_was_never_opened(tmp_path: Path) -> None:
    made = log(tmp_path / "s", every=2)
    made.close()
    made.close()
    assert list((tmp_path / "s").iterdir()) == []


@pytest.mark.fault("C1")
def test_what_waits_for_room_is_written_when_the_writer_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = log(tmp_path / "s", every=9)
    fill(made, 2)
    with monkeypatch.context() as patch:
        patch.setattr(history_disk, "write_whole", failing(errno.ENOSPC))
        with pytest.raises(StateError):
            fill(made, 1, start=2)
    made.close()
    assert numbers(tmp_path / "s") == [0, 1, 2]
    assert kinds(tmp_path / "s")[-2:] == ["storage_recovered", "checkpoint"]


def test_closing_on_a_failing_disk_is_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = log(tmp_path / "s", every=9)
    fill(made, 2)
    monkeypatch.setattr(history_disk, "write_whole", failing(errno.EROFS))
    made.close()
    assert not made.is_open


def test_a_full_disk_and_checkpoints_together_lose_and_repeat_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = log(tmp_path / "s", size=3_000, every=3, packs=True)
    for number in range(60):
        if number % 7 not in (3, 4):
            fill(made, 1, start=number)
            continue
        with monkeypatch.context() as patch:
            patch.setattr(history_disk, "write_whole", failing(errno.ENOSPC))
            with pytest.raises(StateError, match="wait in memory"):
                fill(made, 1, start=number)
    made.close()
    assert numbers(tmp_path / "s") == list(range(60))
    assert independent_length(tmp_path / "s") == made.link.seq
