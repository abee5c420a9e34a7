"""What an audit of a million records costs, as a whole process: seconds and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from hashlib import sha256
from itertools import cycle
from pathlib import Path
from typing import Any

from bench.measures import Row
from reconciler.formats.history import DOMAIN, ORIGIN, seal

RECORDS = 1_000_000
SEED = (
    '{{"timestamp": "{at}Z", "mode": "canary", "req_per_sec": 15, "p99_latency": {p99}, "error_rate": 0.03, '
    '"policy": "{policy}"}}\n'
)


def audit_cost() -> Iterator[Row]:
    """A history of rollouts and rests, one of rollouts only, and one of the guide's snapshots."""
    for name, lines in (
        ("a year's mix", mixed(RECORDS)),
        ("rollouts only", _sealed(RECORDS, [_rollout(False)] * 90 + [_rollout(True)] * 10)),
        ("the guide's lines", _seed(RECORDS)),
    ):
        seconds, cpu_s, peak_mb, size_mb = _measured(lines)
        yield Row(
            f"audit, {RECORDS:,} records, {name} ({size_mb:.0f} MB)",
            f"{seconds:.1f} s ({cpu_s:.1f} s processor), {peak_mb:.0f} MB",
            "-",
            "-",
            "≤ 10 s, ≤ 150 MB",
            seconds <= 10 and peak_mb <= 150,
        )


def _measured(lines: Iterator[bytes]) -> tuple[float, float, float, float]:
    """Seconds, seconds of processor time, peak resident MB, and MB of history: of a process that writes the report."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        state = Path(folder) / "state"
        state.mkdir()
        with open(state / "history.jsonl", "wb") as file:
            file.writelines(lines)
        code = (
            "import resource, sys; from reconciler.cli.main import main; main(sys.argv[1:])\n"
            "used = resource.getrusage(resource.RUSAGE_SELF); print(used.ru_utime + used.ru_stime, used.ru_maxrss)"
        )
        words = [sys.executable, "-c", code, "audit", "--state-dir", str(state), "--out", f"{folder}/audit_report.md"]
        began = time.perf_counter()
        done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=folder)
        seconds = time.perf_counter() - began
        cpu_s, peak = done.stdout.split()[-2:]
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return seconds, float(cpu_s), int(peak) / unit, os.path.getsize(state / "history.jsonl") / 2**20


def mixed(count: int) -> Iterator[bytes]:
    """Of 100 records 80 are merged rest, 17 of a rollout (5 of them denied), one each a move, a repair, a denial."""
    rest = [_idle()] * 16
    of_rollout = [_rollout(number > 11) for number in range(17)]
    return _sealed(count, [*rest * 5, *of_rollout, _rollout(False, move="advance"), _repair(), _denial()])


def _sealed(count: int, records: list[dict[str, Any]]) -> Iterator[bytes]:
    """`count` chained lines, made from `records` again and again, 5 s apart."""
    bodies = []
    for record in records:
        line, _ = seal(record, ORIGIN)
        bodies.append(line[line.index(b'"kind"') : -1])
    prev = ORIGIN.hash.encode()
    for seq, body in zip(range(1, count + 1), cycle(bodies)):
        text = b'"prev":"%b","seq":%d,"timestamp":"%b.000Z",%b' % (prev, seq, _stamp(seq).encode(), body)
        prev = sha256(DOMAIN + b"{" + text).hexdigest().encode()
        yield b'{"hash":"%b",%b\n' % (prev, text)


def _seed(count: int) -> Iterator[bytes]:
    for seq in range(count):
        fails = seq % 100 < 40
        yield SEED.format(at=_stamp(seq), p99=620 if fails else 120, policy="FAIL" if fails else "PASS").encode()


def _stamp(seq: int) -> str:
    minute, second = divmod(seq * 5, 60)
    hour, minute = divmod(minute, 60)
    day, hour = divmod(hour, 24)
    month, day = divmod(day, 28)
    return f"20{26 + month // 12:02}-{month % 12 + 1:02}-{day + 1:02}T{hour:02}:{minute:02}:{second:02}"


def _idle() -> dict[str, Any]:
    at = "2026-05-06T12:00:00.000Z"
    return {
        "timestamp": at, "kind": "idle", "mode": "stable", "req_per_sec": 15.2, "p99_latency": 120.4, "error_rate": 0.0,
        "policy": None, "revision": "3f2a9c04d1e7aa" * 4, "phase": {"app": "stable"}, "count": 60, "first": at,
        "last": at,
        "ranges": {"req_per_sec": [11.0, 20.5], "p99_latency": [80.1, 160.2], "error_rate": [0.0, 0.002]},
    }  # fmt: skip


def _evidence() -> dict[str, Any]:
    proportion = {
        "count": 3, "rate": 0.0073, "rate_low": 0.0015, "rate_high": 0.0211, "baseline_rate": 0.0041, "excess": 0.0032,
        "e_above_limit": 0.41, "e_below_limit": 7.3, "e_worse": 1.1, "baseline_e_above_limit": 0.02, "bad_cycles": 0,
        "design_effect": 1.3,
    }  # fmt: skip
    return {
        "window": {"requests": 187, "error_rate": 0.0053, "p99_ms": 212.5, "req_per_sec": 6.2},
        "requests": 412,
        "errors": proportion,
        "latency": {**proportion, "threshold_ms": 500, "bucket_exact": True, "p99_low_ms": 180.0, "p99_high_ms": 240.0},
        "e_catastrophic": 0.001,
        "traffic": {"expected_share": 0.25, "observed_share": 0.244, "e_mismatch": 0.6},
        "data_quality": {"ok": True, "why": "", "missed_scrapes": 0, "counter_resets": 0, "canary_restarts": 0},
        "observed_s": 66.0, "evidence_s": 56.0, "chaos": "none", "needs": {"requests": 300, "seconds": 49},
    }  # fmt: skip


def _cycle(**changes: Any) -> dict[str, Any]:
    return {
        "timestamp": "2026-05-06T12:00:00.000Z", "kind": "cycle", "mode": "stable", "req_per_sec": None,
        "p99_latency": None, "error_rate": None, "policy": None, "number": 812, "trigger": {"kind": "interval"},
        "revision": "3f2a9c04d1e7aa" * 4, "started": "2026-05-06T12:00:00.000Z", "duration_ms": 41.2,
        "phase": {"app": "stable"}, "problems": [], "verdicts": [], "decisions": [], "actions": [], "notes": [],
        "substituted": {}, "errors": [], "words": [],
        "rollouts": {"app": {
            "phase": "stable", "step": 0, "steps": 3, "weight": 0, "chaos": "none", "canary": None, "evidence": None,
            "stable": {"revision": "9b1c22d0e4f3aa" * 4, "version": "1.0.0", "image": "demo:1"}, "quarantined": [],
        }},
        **changes,
    }  # fmt: skip


def _rollout(denies: bool, move: str = "hold") -> dict[str, Any]:
    message = "P99 latency exceeds 500ms"
    broken = [{"id": "max_p99_latency_ms", "message": message, "observed": 620, "limit": 500}] if denies else []
    rested = _cycle()
    rested["rollouts"]["app"] |= {
        "phase": "analyzing", "step": 2, "weight": 25, "evidence": _evidence(),
        "canary": {"revision": "51d0aa7c" * 8, "version": "1.1.0", "image": "demo:2"},
    }  # fmt: skip
    return {
        **rested,
        "mode": "canary", "req_per_sec": 24.8, "p99_latency": 620.0 if denies else 212.5, "error_rate": 0.0053,
        "policy": "FAIL" if denies else "PASS", "phase": {"app": "analyzing"},
        "verdicts": [{
            "domain": "canary", "allow": not denies, "known": True, "action": "hold" if denies else "promote",
            "reason": message if denies else "error rate and P99 latency are within their limits", "violations": broken,
            "policy_revision": "77ab" * 16, "decision_id": "4c1f0c1e-7d5e-4f0e-9b59-0d8f1b7c2a10",
            "input_digest": "ab" * 32,
        }],
        "decisions": [{"service": "app", "move": move, "reason": "step 2 of 3, 34 s of 60 s", "release": None}],
    }  # fmt: skip


def _repair() -> dict[str, Any]:
    action = {"verb": "start", "target": "demo-app-blue-1", "cause": "it exited", "outcome": "ok", "detail": ""}
    return _cycle(actions=[action])


def _denial() -> dict[str, Any]:
    broken = [{"id": "min_disk_free_gb", "message": "Disk space below 10GB", "observed": 7.2, "limit": 10}]
    verdict = {"domain": "infrastructure", "allow": False, "known": True, "action": "hold", "violations": broken}
    return _cycle(policy="FAIL", verdicts=[{**verdict, "reason": "Disk space below 10GB"}])


def main() -> None:
    """The rows as JSON, for when only these are wanted: `python -m bench.audit`."""
    for row in audit_cost():
        print(json.dumps([row.what, row.ours, row.target, row.met], ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
