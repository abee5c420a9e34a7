"""What it costs to verify a million signed records, as a whole process, and to sign one: beside `sha256sum`."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.audit import mixed
from bench.measures import Row
from reconciler.adapters.history_checkpoints import EVERY_RECORDS
from reconciler.adapters.history_key import HistoryKey
from reconciler.formats.history import ORIGIN, Link, seal
from reconciler.formats.history_checkpoint import checkpoint, statement

RECORDS = 1_000_000


def verify_cost() -> Iterator[Row]:
    """The chain and every signature of a log as a year leaves it; then the same log compressed."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        state = Path(folder) / "state"
        state.mkdir()
        sign_ms = _write(state)
        path = state / "history.jsonl"
        size_mb = path.stat().st_size / 2**20
        peer = _measured(["sha256sum", str(path)])
        yield _row(f"verify, {RECORDS:,} records, all signed ({size_mb:.0f} MB)", state, peer)
        finished = state / "history-000001.jsonl"
        os.rename(path, finished)
        subprocess.run(["gzip", "-6", str(finished)], check=True)
        packed_mb = finished.with_name(f"{finished.name}.gz").stat().st_size / 2**20
        yield _row(f"verify, the same compressed ({packed_mb:.0f} MB)", state, peer)
        yield Row("sign a checkpoint (ssh-keygen)", f"{sign_ms:.1f} ms", "-", "-", "≤ 100 ms", sign_ms <= 100)


def _row(what: str, state: Path, peer: tuple[float, float, str]) -> Row:
    code = (
        "import resource, sys; from reconciler.cli.main import main; code = main(sys.argv[1:])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
    )
    words = [sys.executable, "-c", code, "verify", "-o", "json", "--state-dir", str(state)]
    seconds, cpu_s, said = _measured(words)
    verdict, peak = said.splitlines()
    found = json.loads(verdict)
    signatures = sum(signer["checkpoints"] for signer in found["signers"])
    assert found["whole"], "the log of the bench does not hold"
    assert found["records"] == RECORDS
    peak_mb = int(peak) / (2**20 if sys.platform == "darwin" else 2**10)
    return Row(
        f"{what}, {signatures:,} signatures",
        f"{seconds:.1f} s ({cpu_s:.1f} s processor), {peak_mb:.0f} MB",
        f"sha256sum {peer[0]:.1f} s ({peer[1]:.1f} s processor)",
        f"{cpu_s / peer[1]:.1f}",
        "≤ 10 s",
        seconds <= 10,
    )


def _write(state: Path) -> float:
    """A log of so many records, a checkpoint among every 256; the median time of a signature in milliseconds."""
    key, times = HistoryKey(state), []
    bodies = mixed(RECORDS)
    link = ORIGIN
    with open(state / "history.jsonl", "wb", 1 << 20) as file:
        while link.seq < RECORDS:
            if link.seq % EVERY_RECORDS == EVERY_RECORDS - 1:
                began = time.perf_counter()
                record = checkpoint("records", key.sign(statement(link)))
                times.append(time.perf_counter() - began)
                line, link = seal({"timestamp": "2026-11-23T01:02:03.000Z", **record}, link)
            else:
                line, link = _chained(next(bodies), link)
            file.write(line)
    return sorted(times)[len(times) // 2] * 1000


def _chained(line: bytes, link: Link) -> tuple[bytes, Link]:
    """A line of another log, as the next one of this."""
    from hashlib import sha256

    from reconciler.formats.history import DOMAIN

    body = line[line.index(b',"timestamp"') :].rstrip(b"\n")
    text = b'"prev":"%b","seq":%d%b' % (link.hash.encode(), link.seq + 1, body)
    digest = sha256(DOMAIN + b"{" + text).hexdigest()
    return b'{"hash":"%b",%b\n' % (digest.encode(), text), Link(link.seq + 1, digest)


def _measured(words: list[str]) -> tuple[float, float, str]:
    """Seconds, seconds of processor time, and what the program said."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


ROWS = {"verify": verify_cost}


def main() -> None:
    """The rows as JSON, for when only these are wanted: `python -m bench.history`."""
    for row in verify_cost():
        print(
            json.dumps([row.what, row.ours, row.peer, row.ratio, row.target, row.met], ensure_ascii=False), flush=True
        )


if __name__ == "__main__":
    main()
