"""The history as people read it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cli_samples import PROGRAM

from reconciler.adapters.history_file import HistoryFile
from reconciler.cli.history_view import record_line
from reconciler.cli.terminal import Paint

PLAIN = Paint(False)
CYCLE = {
    "timestamp": "2026-05-06T12:00:00.000Z",
    "kind": "cycle",
    "mode": "stable",
    "req_per_sec": None,
    "p99_latency": None,
    "error_rate": None,
    "policy": "PASS",
    "number": 812,
    "trigger": {"kind": "operator", "detail": "promote", "actor": "alice (uid 1000)", "reason": "fix"},
    "problems": [],
    "verdicts": [{"domain": "infrastructure", "allow": True, "known": True, "reason": ""}],
    "decisions": [{"service": "app", "move": "start", "reason": ""}, {"service": "db", "move": "hold", "reason": ""}],
    "actions": [
        {"verb": "create", "target": "app-1", "cause": "x", "outcome": "ok", "detail": ""},
        {"verb": "wait for", "target": "app-1", "cause": "x", "outcome": "pending", "detail": "starting"},
        {"verb": "start", "target": "app-2", "cause": "x", "outcome": "failed", "detail": "port taken"},
    ],
    "notes": [],
    "errors": [],
}


@pytest.fixture
def log(state_dir: Path) -> HistoryFile:
    state_dir.mkdir()
    return HistoryFile(state_dir, "demo", "0.1.0", lambda: "id")


def _cycle(number: int, **changes: Any) -> dict[str, Any]:
    return {**CYCLE, "number": number, "timestamp": f"2026-05-06T12:{number:02}:00.000Z", **changes}


def test_a_cycle_in_one_line() -> None:
    assert record_line(CYCLE, PLAIN) == (
        "2026-05-06 12:00:00  cycle 812  operator (promote) by alice (uid 1000): fix  app: rollout started  "
        "create app-1; start app-2 [failed: port taken]"
    )


def test_words_and_moves_say_who_and_why() -> None:
    word = {"word": "promote", "service": "app", "actor": "alice (uid 1000)", "reason": "it is time", "detail": ""}
    moved = {"service": "app", "move": "advance", "reason": "one step further on evidence"}
    record = _cycle(1, trigger={"kind": "interval"}, decisions=[moved], actions=[], words=[{**word, "outcome": "done"}])
    assert record_line(record, PLAIN) == (
        "2026-05-06 12:01:00  cycle 1  interval  alice (uid 1000): promote app: it is time  "
        "app: canary advanced: one step further on evidence"
    )
    denied = _cycle(1, words=[{**word, "outcome": "denied: P99 latency exceeds 500ms"}, {"word": "lookagain"}, 3])
    assert "it is time [denied: P99 latency exceeds 500ms]  app" in record_line(denied, PLAIN)


def test_a_canary_that_waits_for_evidence_is_held_and_not_denied() -> None:
    verdict = {"domain": "canary", "allow": False, "known": True, "action": "hold", "reason": "12 of 20 requests"}
    record = _cycle(1, policy="FAIL", verdicts=[{**verdict, "violations": []}], decisions=[], actions=[])
    assert "canary: holds: 12 of 20 requests" in record_line(record, PLAIN)


def test_a_denial_and_errors_are_in_it() -> None:
    verdicts = [{"domain": "infrastructure", "allow": False, "known": True, "reason": "Disk space below 10GB"}]
    record = _cycle(1, policy="FAIL", verdicts=verdicts, errors=["Docker is down"], actions=[])
    line = record_line(record, PLAIN)
    assert "infrastructure: DENIED: Disk space below 10GB" in line
    assert "Docker is down" in line


def test_an_idle_run_is_one_line_with_its_count() -> None:
    measured = {"req_per_sec": 19.987462475165056, "p99_latency": 4.949999999999999, "error_rate": 0.0312}
    record = {"kind": "idle", "timestamp": "2026-05-06T12:00:00Z", "count": 720, **measured}
    assert record_line(record, PLAIN) == (
        "2026-05-06 12:00:00  idle  nothing to do, 720 times  20 req/s, 4.9 ms p99, 3.12% errors"
    )


def test_a_line_fits_a_terminal() -> None:
    assert len(record_line(CYCLE, PLAIN, 60)) == 60


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"kind": None},
        {"kind": 7, "timestamp": 8, "number": "x"},
        {"kind": "cycle", "trigger": "words", "actions": "x", "errors": 3, "decisions": [1, None], "verdicts": [[]]},
        {"kind": "cycle", "trigger": [1], "actions": [None, 3, {}], "plan": {"a": 1}},
        {"kind": "odd", "odd": "not JSON", "raw": "\x1b[2J"},
        {"kind": "idle"},
        {"kind": "\x1b[2J", "timestamp": "\u202e" * 40, "reason": "a\nb", "errors": ["\x9b"]},
        {"kind": "history_tampered", "reason": "somebody"},
    ],
)
def test_whatever_is_in_a_record_one_printable_line_comes_out(record: dict[str, Any]) -> None:
    assert record_line(record, PLAIN).isprintable()


def test_history_shows_the_last_records(run: Any, log: HistoryFile) -> None:
    for number in range(30):
        log.append(_cycle(number))
    lines = run("history").out.splitlines()
    assert len(lines) == 20
    assert "cycle 29" in lines[-1]
    assert len(run("history", "-n", "0").out.splitlines()) == 31
    assert len(run("history", "-n", "3").out.splitlines()) == 3


def test_history_since(run: Any, log: HistoryFile) -> None:
    for number in range(30):
        log.append(_cycle(number))
    assert len(run("history", "--since", "2026-05-06T12:28:00Z").out.splitlines()) == 2
    assert len(run("history", "--since", "2026-05-06T14:28:00+02:00", "-n", "1").out.splitlines()) == 1
    assert run("history", "--since", "1m").out == ""


def test_history_as_json_is_its_records(run: Any, log: HistoryFile) -> None:
    log.append(_cycle(1, errors=["\x1b[2J"]))
    out = run("history", "-o", "json").out
    assert out.isascii()
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["kind"] for record in records] == ["genesis", "cycle"]
    assert records[1]["errors"] == ["\x1b[2J"]


def test_odd_lines_are_shown_as_odd(run: Any, log: HistoryFile, state_dir: Path) -> None:
    log.append(_cycle(1))
    with open(state_dir / "history.jsonl", "ab") as file:
        file.write(b'not json \x1b[2J\n{"kind":"cycle","number":9}\n')
    lines = run("history").out.splitlines()
    assert len(lines) == 4
    assert "not JSON" in lines[2]
    assert "\x1b" not in lines[2]
    assert "cycle 9" in lines[3]
    assert "not a line of this log" in lines[3]


def test_no_history_yet(run: Any, state_dir: Path) -> None:
    result = run("history")
    assert (result.code, result.out) == (1, "")
    assert "does not exist" in result.err
    state_dir.mkdir()
    result = run("history")
    assert (result.code, result.out) == (0, "")
    assert "no history" in result.err


def test_follow_shows_what_is_there_and_what_comes(log: HistoryFile, state_dir: Path) -> None:
    log.append(_cycle(1))
    words = ["history", "-f", "-n", "1", "--state-dir", str(state_dir)]
    process = subprocess.Popen([*PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "cycle 1 " in process.stdout.readline()
    for number in (2, 3):
        log.append(_cycle(number))
        assert f"cycle {number} " in process.stdout.readline()
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (130, "", "")


def test_the_commit_is_named_where_it_woke_a_cycle_or_something_was_done() -> None:
    commit = {"id": "1a2b3c4d5e6f7788", "subject": "raise the limit"}
    woken = _cycle(1, trigger={"kind": "git", "detail": "1a2b3c4d5e6f"}, commit=commit, actions=[])
    assert "git (1a2b3c4d5e6f)  commit 1a2b3c4d5e6f raise the limit" in record_line(woken, PLAIN)
    quiet = _cycle(1, trigger={"kind": "interval"}, commit=commit, actions=[])
    assert "commit" not in record_line(quiet, PLAIN)
    told = _cycle(1, trigger={"kind": "git"}, commit=7, actions=[], trouble=["manifest.yaml: it is not signed"])
    assert "manifest.yaml: it is not signed" in record_line(told, PLAIN)
