"""Finished segments compressed: the same log for every reader, at every moment, whatever fails on the way."""

from __future__ import annotations

import errno
import gzip
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from history_tools import failing, fill, independent_length, kinds, log, names, numbers, raw_lines

from reconciler.adapters import history_disk
from reconciler.adapters.history_file import START, HistoryReader, Position
from reconciler.adapters.history_packing import packing
from reconciler.formats.history import ORIGIN
from reconciler.formats.history_verdict import judge


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of things is what these tests look at; `test_history_crashes` is about what is on the disk."""
    monkeypatch.setattr(history_disk, "sync_file", lambda fd: None)
    monkeypatch.setattr(history_disk, "sync_directory", lambda path: None)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A directory with a log of several finished segments, none compressed."""
    made = log(tmp_path / "s", size=3_000)
    fill(made, 60)
    made.close()
    return tmp_path / "s"


def pack(directory: Path) -> None:
    for _ in packing(directory):
        pass


def test_compressing_changes_nothing_that_is_read(plain: Path) -> None:
    reader = HistoryReader(plain)
    everything, lines = list(reader.read()), raw_lines(plain)
    positions = [position for _, position in reader.follow()]
    pack(plain)
    assert [name.endswith(".gz") for name in names(plain)] == [True] * (len(names(plain)) - 1) + [False]
    assert list(reader.read()) == everything
    assert raw_lines(plain) == lines
    assert list(reader.lines()) == [line + b"\n" for line in lines]
    assert reader.verify(full=True).is_whole
    for count in (1, 7, 30, 1000):
        assert reader.tail(count) == everything[-count:]
    for seq in (1, 2, 15, 30, 60):
        assert list(reader.read(seq)) == everything[seq - 1 :]
    for position in positions:
        assert [record["seq"] for record, _ in reader.follow(position)] == list(range(position.seq + 1, len(lines) + 1))


def test_what_anybody_unpacks_is_the_segment_that_was(plain: Path) -> None:
    first = plain / "history-000001.jsonl"
    content, written = first.read_bytes(), first.stat().st_mtime_ns
    pack(plain)
    packed = plain / "history-000001.jsonl.gz"
    assert gzip.decompress(packed.read_bytes()) == content
    assert stat.S_IMODE(packed.stat().st_mode) == 0o440
    assert packed.stat().st_mtime_ns == written
    assert not list(plain.glob("*.tmp"))


def test_the_writer_compresses_by_itself_and_the_next_one_goes_on(tmp_path: Path) -> None:
    made = log(tmp_path / "s", size=3_000, packs=True)
    fill(made, 60)
    assert sum(name.endswith(".gz") for name in names(tmp_path / "s")) >= 3
    made.close()
    again = log(tmp_path / "s", size=3_000, packs=True)
    fill(again, 60, start=60)
    plain = [name for name in names(tmp_path / "s") if not name.endswith(".gz")]
    assert len(plain) <= 2
    assert numbers(tmp_path / "s") == list(range(120))
    assert independent_length(tmp_path / "s") == again.link.seq
    assert again.damage() == []


def test_a_log_whose_finished_segments_are_all_compressed_goes_on(plain: Path) -> None:
    for path in HistoryReader(plain).finished():
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    made = log(plain, size=3_000)
    fill(made, 1, start=60)
    assert made.damage() == []
    assert numbers(plain) == list(range(61))
    (plain / "history.jsonl").unlink()
    made = log(plain)
    made.open("2026-11-23T01:02:03Z")
    assert "is missing" in str(made.damage()[0]["reason"])


def test_both_forms_of_a_segment_are_one_segment_and_the_work_is_done_again(plain: Path) -> None:
    (plain / "history-000001.jsonl.gz").write_bytes(b"what a crash or somebody left")
    lines = raw_lines(plain)
    assert HistoryReader(plain).verify().is_whole
    pack(plain)
    assert names(plain)[0] == "history-000001.jsonl.gz"
    assert raw_lines(plain) == lines


@pytest.mark.parametrize("how", ["cut", "one byte", "not gzip", "empty", "removed"])
@pytest.mark.fault("C7")
def test_a_damaged_compressed_segment_is_a_break_and_the_rest_still_counts(plain: Path, how: str) -> None:
    pack(plain)
    path = plain / "history-000002.jsonl.gz"
    content = path.read_bytes()
    path.chmod(0o640)
    if how == "removed":
        path.unlink()
    else:
        changed = {"cut": content[:-30], "not gzip": b"\0" * 400, "empty": b""}
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        path.write_bytes(changed.get(how, flipped))
    reader = HistoryReader(plain)
    report = reader.verify(ORIGIN)
    assert report.breaks >= 1
    assert report.last is not None
    assert report.last.seq == reader.tail(1)[0]["seq"]
    assert numbers(plain)[-1] == 59
    fill(log(plain), 1, start=60)
    assert numbers(plain)[-1] == 60


@pytest.mark.fault("C1", "C2")
@pytest.mark.parametrize("call", ["create", "write_whole", "sync_file", "rename", "remove", "sync_directory"])
def test_compressing_that_fails_leaves_what_was(plain: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    lines = raw_lines(plain)
    with monkeypatch.context() as patch:
        patch.setattr(history_disk, call, failing(errno.ENOSPC))
        pack(plain)
    assert raw_lines(plain) == lines
    assert HistoryReader(plain).verify().is_whole
    pack(plain)
    assert raw_lines(plain) == lines
    assert sum(not name.endswith(".gz") for name in names(plain)) == 1
    assert not list(plain.glob("*.tmp"))


def test_a_segment_that_does_not_come_back_as_it_went_stays_plain(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that lies: what is read back is not what was written."""
    before, real = names(plain), gzip.GzipFile.read
    with monkeypatch.context() as patch:
        patch.setattr(gzip.GzipFile, "read", lambda file, size: real(file, size).replace(b"x", b"y", 1))
        pack(plain)
    assert names(plain) == before


@pytest.mark.fault("C13")
def test_a_segment_that_somebody_changes_meanwhile_is_not_taken_away(plain: Path) -> None:
    work = packing(plain)
    next(work)
    first = plain / "history-000001.jsonl"
    first.chmod(0o640)
    with first.open("ab") as file:
        file.write(b"added\n")
    for _ in work:
        pass
    assert first.read_bytes().endswith(b"added\n")
    assert "history-000002.jsonl.gz" in names(plain)


@pytest.mark.fault("C8")
def test_a_link_in_place_of_a_segment_is_left_alone(plain: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes((plain / "history-000001.jsonl").read_bytes())
    (plain / "history-000001.jsonl").unlink()
    (plain / "history-000001.jsonl").symlink_to(outside)
    pack(plain)
    assert (plain / "history-000001.jsonl").is_symlink()
    assert outside.exists()
    assert "history-000002.jsonl.gz" in names(plain)


def test_a_reader_keeps_what_it_has_begun_while_it_is_compressed(plain: Path) -> None:
    reading = HistoryReader(plain).read()
    seen = [next(reading)["seq"] for _ in range(5)]
    pack(plain)
    seen += [record["seq"] for record in reading]
    assert seen == list(range(1, len(raw_lines(plain)) + 1))


def test_a_follower_sees_every_record_once_through_rotation_and_compression(tmp_path: Path) -> None:
    made = log(tmp_path / "s", size=1_500, packs=True)
    reader, position, seen = HistoryReader(tmp_path / "s"), START, []
    for number in range(120):
        fill(made, 1, start=number)
        if number % 11 == 0:
            for record, reached in reader.follow(position):
                position = reached
                seen.append(record["seq"])
    seen += [record["seq"] for record, _ in reader.follow(position)]
    assert seen == list(range(1, made.link.seq + 1))
    assert any(name.endswith(".gz") for name in names(tmp_path / "s"))


WRITER = """
import sys
sys.path[:0] = [{tests!r}]
from pathlib import Path
from history_tools import fill, log
made = log(Path({directory!r}), size=4_000, every=7, packs=True)
fill(made, 5)
print("begun", flush=True)
fill(made, 300, start=5)
made.close()
"""


def test_verifying_beside_a_writer_that_rotates_and_compresses_finds_no_break(tmp_path: Path) -> None:
    script = WRITER.format(tests=str(Path(__file__).parent), directory=str(tmp_path / "s"))
    reader, walks = HistoryReader(tmp_path / "s"), []
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        while child.poll() is None:
            verdict = judge(reader.segments(), ORIGIN)
            assert verdict.broken == ()
            walks.append(verdict.chain.lines)
    assert child.returncode == 0
    assert judge(reader.segments(), ORIGIN).chain.lines == independent_length(tmp_path / "s")
    assert walks == sorted(walks)
    assert numbers(tmp_path / "s") == list(range(305))


def test_a_position_in_a_file_that_is_gone_does_not_fit_a_later_one_with_its_number(plain: Path) -> None:
    """The inode of a compressed segment's plain file is soon given to another file."""
    live = plain / "history.jsonl"
    wrong = Position(inode=live.stat().st_ino, offset=10, seq=5)
    assert next(record["seq"] for record, _ in HistoryReader(plain).follow(wrong)) == 6


@pytest.mark.parametrize(
    "name",
    [
        "history-0000001.jsonl",
        "history-1.jsonl",
        "history-000001.jsonl.gz.tmp",
        "history-00000a.jsonl",
        "history-000001.json",
    ],
)
def test_names_that_we_never_give_are_nobody_s_segments(plain: Path, name: str) -> None:
    lines = list(HistoryReader(plain).lines())
    (plain / name).write_bytes(b"by hand\n")
    assert list(HistoryReader(plain).lines()) == lines
    fill(log(plain), 1, start=60)
    assert (plain / name).read_bytes() == b"by hand\n"


def test_compressed_and_plain_alike_are_damaged_or_not(plain: Path) -> None:
    made = log(plain)
    (plain / "history.jsonl").open("ab").write(b"by hand\n")
    fill(made, 1, start=60)
    fill(made, 1, start=61)
    assert kinds(plain).count("history_corrupt") == 1
    made.close()
    before = made.damage()
    pack(plain)
    assert HistoryReader(plain).damage() == before
