"""`audit` as a command: where the report goes, what is read, and that it stands in nobody's way."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters import history_file
from reconciler.adapters.history_file import HistoryFile
from reconciler.cli import audit as audit_command

SNAPSHOT = (
    b'{"timestamp": "2026-05-06T12:03:00Z", "mode": "canary", "req_per_sec": 15, "p99_latency": 620, '
    b'"error_rate": 0.03, "policy": "FAIL"}\n'
)


@pytest.fixture
def log(state_dir: Path) -> HistoryFile:
    state_dir.mkdir()
    return HistoryFile(state_dir, "demo", "0.1.0", lambda: "id", max_segment_bytes=2000)


def _cycle(minute: int, **changes: Any) -> dict[str, Any]:
    return {"timestamp": f"2026-05-06T12:{minute:02}:00.000Z", "kind": "cycle", "mode": "stable", **changes}


def _move(minute: int) -> dict[str, Any]:
    return _cycle(minute, decisions=[{"service": "app", "move": "advance", "reason": f"number {minute}"}])


def test_the_report_lies_beside_the_manifest(run: Any, log: HistoryFile, tmp_path: Path) -> None:
    log.append(_move(1))
    result = run("audit")
    report = tmp_path / "audit_report.md"
    assert (result.code, result.err) == (0, "")
    assert result.out == f"{report}: 2 records, 1 event, 0 violations\n"
    assert report.read_text().startswith("# Audit report: demo\n")
    assert "| 2026-05-06 12:01:00 | Canary advanced | app | number 1 |\n" in report.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit_report.md", "state"]
    (tmp_path / "elsewhere").mkdir()
    run("audit", "--file", "elsewhere/manifest.yaml")
    assert (tmp_path / "elsewhere" / "audit_report.md").read_bytes() == report.read_bytes()


def test_the_same_history_gives_the_same_bytes_wherever_it_goes(run: Any, log: HistoryFile, tmp_path: Path) -> None:
    for minute in range(9):
        log.append(_move(minute))
    run("audit", "--out", "first.md")
    run("audit", "--out", "first.md")
    assert run("audit", "--out", "-").out == (tmp_path / "first.md").read_text()


def test_all_segments_are_read_in_their_order(run: Any, log: HistoryFile) -> None:
    for minute in range(40):
        log.append(_move(minute))
    assert len(log.finished()) >= 3
    found = json.loads(run("audit", "-o", "json").out)
    assert [event["detail"] for event in found["timeline"]] == [f"number {minute}" for minute in range(40)]
    assert (found["chain"]["breaks"], found["odd"]) == (0, 0)


def test_a_rotation_in_between_loses_and_repeats_nothing(
    log: HistoryFile, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for minute in range(5):
        log.append(_move(minute))
    real, rotated = history_file.HistoryReader.finished, state_dir / "history-000099.jsonl"

    def rotated_first(self: Any) -> list[Path]:
        if not rotated.exists():
            os.rename(state_dir / "history.jsonl", rotated)
            (state_dir / "history.jsonl").write_bytes(b"")
        return real(self)

    before = b"".join(audit_command.history_lines(state_dir))
    monkeypatch.setattr(history_file.HistoryReader, "finished", rotated_first)
    assert b"".join(audit_command.history_lines(state_dir)) == before


def test_the_guides_lines_and_odd_ones_are_taken_as_they_are(run: Any, state_dir: Path) -> None:
    state_dir.mkdir()
    (state_dir / "history.jsonl").write_bytes(SNAPSHOT + b"gar|bage\n" + SNAPSHOT + b'{"timestamp": "2026-0')
    out = run("audit", "--out", "-").out
    assert "- **Lines not understood:** 2 (line 2: not JSON; line 4: not finished)\n" in out
    assert "| 2026-05-06 12:03:00 | Mode switched to canary | - | - |\n" in out
    assert "| 2026-05-06 12:03:00 | P99 latency exceeds 500ms | - | 620ms | 500ms | 2 | FAIL |\n" in out


def test_since_is_a_moment_or_so_long_ago(run: Any, log: HistoryFile) -> None:
    for minute in range(9):
        log.append(_move(minute))
    found = json.loads(run("audit", "-o", "json", "--since", "2026-05-06T12:07:00Z").out)
    assert (found["records"], len(found["timeline"])) == (2, 2)
    assert json.loads(run("audit", "-o", "json", "--since", "1m").out)["records"] == 0


def test_json_writes_no_file_unless_one_is_named(run: Any, log: HistoryFile, tmp_path: Path) -> None:
    log.append(_move(1))
    assert json.loads(run("audit", "-o", "json").out)["project"] == "demo"
    assert not (tmp_path / "audit_report.md").exists()
    assert json.loads(run("audit", "-o", "json", "--out", "named.md").out)["project"] == "demo"
    assert (tmp_path / "named.md").exists()


def test_it_needs_no_daemon_and_no_lock(run: Any, log: HistoryFile, local: list[Any], operations: Any) -> None:
    log.append(_move(1))
    assert run("audit").code == 0
    assert (local, operations.asked) == ([], [])


def test_a_history_that_is_not_there_is_told(run: Any, state_dir: Path, tmp_path: Path) -> None:
    result = run("audit")
    assert (result.code, result.out) == (1, "")
    assert "does not exist" in result.err
    state_dir.mkdir()
    assert run("audit").code == 0
    assert "Nothing happened." in (tmp_path / "audit_report.md").read_text()


def test_a_place_that_cannot_be_written_is_told_and_left_as_it_was(run: Any, log: HistoryFile, tmp_path: Path) -> None:
    log.append(_move(1))
    result = run("audit", "--out", "no/such/folder.md")
    assert (result.code, result.out) == (1, "")
    assert "No such file or directory. Name another place with --out." in result.err
    (tmp_path / "folder").mkdir()
    assert run("audit", "--out", "folder").code == 1
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_pipe_is_written_to_and_not_replaced(run: Any, log: HistoryFile, tmp_path: Path) -> None:
    log.append(_move(1))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert run("audit", "--out", str(pipe)).code == 0
        assert pipe.is_fifo()
        assert os.read(reading, 65536).startswith(b"# Audit report: demo\n")
    finally:
        os.close(reading)


def test_a_failed_write_leaves_the_old_report(
    run: Any, log: HistoryFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append(_move(1))
    run("audit")
    before = (tmp_path / "audit_report.md").read_bytes()

    def full(found: Any) -> Iterator[str]:
        yield "# half"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("reconciler.formats.audit_report.markdown", full)
    assert "No space left on device" in run("audit").err
    assert (tmp_path / "audit_report.md").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit_report.md", "state"]
