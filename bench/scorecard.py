"""How far the product was tried, beside those who do it best: `python -m bench scorecard`.

What takes seconds is measured now. What takes hours is read from `figures.json`: the last long run of each command,
with its date, written there by hand from what it printed. A figure that nobody has measured is said to be missing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from bench.measures import Row

ROOT = Path(__file__).resolve().parents[1]
FIGURES = Path(__file__).with_name("figures.json")
SEEDS = 5000

Figures = dict[str, Any]


def scorecard() -> Iterator[Row]:
    """Every figure, one after the other; about three minutes, most of them for a million records."""
    yield from _simulated()
    yield from _catalogued()
    yield from _attacked()
    yield from _on_real_hosts()
    yield from _kept()
    yield _exposure()


# ---------------------------------------------------------------- what was measured before


@cache
def recorded() -> dict[str, Figures]:
    """The last long run of each kind: what it came to, `date` and `command`."""
    return dict(json.loads(FIGURES.read_text(encoding="utf-8")))


def _then(name: str, what: str, told: str, peer: str, target: str, is_met: Any) -> Row:
    """A row of a long run: `told` is filled in with its figures, `is_met` judges them."""
    found = recorded().get(name)
    if found is None:
        return Row(what, "not measured", peer, "-", target, False)
    return Row(what, f"{told.format(**found)} ({found['date']})", peer, "-", target, bool(is_met(found)))


# ---------------------------------------------------------------- the simulated world


def _simulated() -> Iterator[Row]:
    from tests.sim.campaign import seeds
    from tests.sim.mutant_list import MUTANTS
    from tests.sim.test_sim import CHUNKS, EACH

    tally = seeds(0, SEEDS)
    rate = tally.schedules / tally.cpu_s
    cores = os.cpu_count() or 1
    broken = f", {len(tally.broken)} broken"
    yield Row(
        f"simulated schedules a second and core ({SEEDS:,} seeds)",
        f"{rate:,.0f}{broken}",
        "-",
        "-",
        "≥ 400",
        rate >= 400,
    )
    hourly = rate * cores * 3600
    sieve = "Sieve 7.5 plans (2,380 in 317 machine-hours)"
    yield Row(
        f"… a machine-hour, on {cores} cores",
        f"{hourly:,.0f}",
        sieve,
        f"{hourly / 7.5:,.0f}",
        "≥ 1,000,000",
        hourly >= 1e6,
    )
    yield Row("… in `make test`", f"{CHUNKS * EACH:,}", "-", "-", "≥ 50,000", CHUNKS * EACH >= 50_000)
    yield _then(
        "schedules",
        "schedules of the long run",
        "{schedules:,}, {broken} broken",
        "FoundationDB: tens of thousands a night; TigerBeetle: 1,024 cores, always",
        "≥ 2,000,000; 0 broken",
        lambda found: found["schedules"] >= 2_000_000 and not found["broken"],
    )
    yield _then(
        "single faults",
        "single faults: every effect of every story × everything that can happen to it",
        "{schedules:,} of {of:,}, {broken} broken",
        "Sieve: 81 to 584 plans a controller, one perturbation each",
        "all; 0 broken",
        lambda found: found["schedules"] >= found["of"] and not found["broken"],
    )
    yield _then(
        "pairs",
        "pairs of faults, main stories",
        "{schedules:,} of {of:,}, {broken} broken",
        "CrashMonkey: workloads of up to 3 operations",
        "all; 0 broken",
        lambda found: found["schedules"] >= found["of"] and not found["broken"],
    )
    yield _then(
        "mutants",
        f"breaks of the product that the simulated world notices (there are {len(MUTANTS)} now)",
        "{killed} of {mutants}",
        "nobody publishes this",
        "all of ≥ 40",
        lambda found: found["killed"] == found["mutants"] >= 40,
    )


# ---------------------------------------------------------------- the catalogue, attacks, fuzzing


def _catalogued() -> Iterator[Row]:
    from tests.catalogue import read_tests
    from tests.catalogue_rows import CONTROLS, FAULTS

    found = read_tests(ROOT / "tests")
    shown = sum(1 for row in FAULTS if found.tests(row.id))
    peer = "Sieve: 3 patterns; Acto: states of a manifest"
    yield Row("rows of the fault catalogue with a test", f"{shown} of {len(FAULTS)}", peer, "-", "≥ 120", shown >= 120)
    held = sum(1 for row in CONTROLS if found.tests(row.id))
    yield Row(
        "controls of the security design with a test",
        f"{held} of {len(CONTROLS)}",
        "-",
        "-",
        "all",
        held == len(CONTROLS),
    )


def _attacked() -> Iterator[Row]:
    from tests.fuzz.targets import TARGETS
    from tests.security.corpus import ATTACKS

    tests = ["tests/security/test_corpus.py", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *tests], cwd=ROOT, capture_output=True, text=True, check=False
    )
    told = f"{len(ATTACKS):,} of {len(ATTACKS):,}" if done.returncode == 0 else f"NOT all of {len(ATTACKS):,}"
    peer = "Argo CD's threat model: 19 threats; Flux's second audit: 10 findings"
    yield Row("attacks refused", told, peer, "-", "all of ≥ 300", done.returncode == 0 and len(ATTACKS) >= 300)
    yield _then(
        "fuzz",
        f"executions of each fuzz target (there are {len(TARGETS)} now)",
        "≥ {least:,} of {targets} targets, {total:,} in all, {escapes} escapes",
        "SQLite: 500 M mutations a day on 16 cores; Argo CD and Flux: targets in CI",
        "≥ 1,000,000 each; 0 escapes",
        lambda found: found["least"] >= 1_000_000 and not found["escapes"] and found["targets"] >= len(TARGETS),
    )


# ---------------------------------------------------------------- real hosts


def _on_real_hosts() -> Iterator[Row]:
    yield _then(
        "crash points",
        "real daemon killed before and after its effects",
        "{run} of {points} points × 2, {failed} wrong",
        "Sieve: after each update of a reference run",
        "all; 0 wrong",
        lambda found: found["run"] >= 2 * found["points"] and not found["failed"],
    )
    yield _then(
        "crash points",
        "… in control again after SIGKILL",
        "p50 {back_p50_s:g} s, p99 {back_p99_s:g} s; {remark}",
        "-",
        "p99 ≤ 7 s (interval + 2 s)",
        lambda found: found["back_p99_s"] <= 7,
    )
    yield _then(
        "soak",
        "soak: failed requests that nothing explains",
        "{unexplained} of {requests:,} in {minutes} min, {operations} operations, {kills} SIGKILLs",
        "-",
        "0 in ≥ 60 min",
        lambda found: found["minutes"] >= 60 and not found["unexplained"],
    )
    yield _then(
        "soak",
        "… growth of one daemon, first to last third of {life_min} min".format(
            **recorded().get("soak", {"life_min": "?"})
        ),
        "{rss_mb[0]:g} → {rss_mb[1]:g} MB, {descriptors[0]:g} → {descriptors[1]:g} descriptors",
        "-",
        "≤ 3 MB, ≤ 2 more",
        lambda found: (
            found["rss_mb"][1] - found["rss_mb"][0] <= 3 and found["descriptors"][1] - found["descriptors"][0] <= 2
        ),
    )


def _kept() -> Iterator[Row]:
    """The chain of a million records and all its signatures; the first row of `bench verify`."""
    from bench.history import verify_cost

    yield next(verify_cost())


def _exposure() -> Row:
    """What systemd says of the unit, without a systemd that runs."""
    what, peer, target = "exposure of the systemd unit (0 to 10)", "a bare unit: 9.6", "≤ 1.5"
    if not shutil.which("systemd-analyze"):
        return Row(what, "not measured: no systemd-analyze here", peer, "-", target, False)
    words = [
        "systemd-analyze",
        "security",
        "--offline=true",
        "--no-pager",
        str(ROOT / "systemd" / "reconcilerd.service"),
    ]
    said = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    found = re.search(r"Overall exposure level .*: ([0-9.]+)", said)
    level = float(found[1]) if found else 10.0
    return Row(what, f"{level:g}", peer, f"{level / 9.6:.2f}", target, level <= 1.5)


ROWS = {"scorecard": scorecard}
