"""`python -m tests.fuzz TARGET --runs 1000000 --jobs 2`: executions, their rate, and every input that got through.

TARGET `all` takes one after the other, `list` names them. Inputs that got through are written to `--keep`.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import sys
import time
from pathlib import Path

from tests.fuzz.machine import Account
from tests.fuzz.targets import TARGETS, fuzzed

SHARE = 10_000
"""Runs of one task: small, so that all jobs end together and memory is given back."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=[*TARGETS, "all", "list"])
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path(".cache/fuzz"))
    arguments = parser.parse_args()
    if arguments.target == "list":
        print("\n".join(f"{name:<14} {target.about}" for name, target in TARGETS.items()))
        return 0
    names = list(TARGETS) if arguments.target == "all" else [arguments.target]
    print(f"{'target':<14} {'executions':>12} {'per second':>11} {'outcomes':>9} {'escapes':>8}")
    escapes = 0
    for name in names:
        account = _fuzzed(name, arguments.runs, arguments.jobs, arguments.seed)
        _tell(account, arguments.keep)
        escapes += len(account.escapes)
    return 1 if escapes else 0


def _fuzzed(name: str, runs: int, jobs: int, seed: int) -> Account:
    started = time.monotonic()
    total = Account(name)
    shares = [min(SHARE, runs - done) for done in range(0, runs, SHARE)]
    # Not concurrent.futures: its pools may wait for ever once a process has done its tasks (python/cpython#115634).
    with multiprocessing.Pool(jobs, maxtasksperchild=10) as pool:
        for running in [pool.apply_async(fuzzed, (name, share, seed + at)) for at, share in enumerate(shares)]:
            total.add(running.get())
    total.seconds = time.monotonic() - started
    return total


def _tell(account: Account, keep: Path) -> None:
    rate = account.executions / max(account.seconds, 0.001)
    print(
        f"{account.target:<14} {account.executions:>12,} {rate:>11,.0f} "
        f"{len(account.outcomes):>9,} {len(account.escapes):>8,}",
        flush=True,
    )
    for escape in account.escapes:
        keep.mkdir(parents=True, exist_ok=True)
        path = keep / f"{account.target}-{hashlib.sha256(escape.data).hexdigest()[:12]}"
        path.write_bytes(escape.data)
        print(f"  {escape.how}\n    {path} ({len(escape.data)} bytes): {escape.data[:100]!r}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
