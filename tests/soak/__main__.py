"""A soak: one real stack under steady traffic, and a seeded sequence of rollouts, edits, words and accidents.

    python -m tests.soak --minutes 62 [--rate 40] [--seed 1] [--keep FOLDER]

Healthy and bad releases (most bad ones answer 5 % of their requests with 500), edits of the manifest (comment,
environment, replicas, limits, broken text), the daemon killed with SIGKILL and started again, OPA killed, a canary's
container removed by force, SIGHUP, pause, resume, promote, suspend: at rest and in the middle of rollouts. nginx is
left alone. Clients keep their connections and never retry; each failed request is looked up in nginx's log and is
*explained* (the bad canary answered so itself, or it went to a container that the soak had just removed) or not.
Between a sixth and five sixths of the time the daemon is not killed, so that one lives long enough to show whether its
memory grows.

Prints a line for each operation and one table; exit code 1 where a row is not as wanted. `--keep` copies the state
folder and the daemon's log there. Needs the engine and its images (`make test` has set them up). What it made is
removed at its end, also on SIGINT and SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import docker

from tests.soak.operations import Done, Operations
from tests.soak.samples import Growth, growth, longest_life
from tests.soak.site import Clients, Site, Watcher, until

VERIFIER = Path(__file__).resolve().parents[2] / "scripts" / "verify-history"


@dataclass(frozen=True)
class Row:
    """One line of the verdict."""

    what: str
    found: str
    wanted: str
    is_right: bool


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--rate", type=float, default=40.0, help="requests a second, all clients together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="copy the state folder and the daemon's log there")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupted)
    engine = docker.from_env(timeout=60)
    try:
        with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as name:
            site = Site(Path(name), engine)
            try:
                rows = soak(site, arguments.minutes * 60, arguments.rate, arguments.seed)
            finally:
                if arguments.keep:
                    shutil.copytree(
                        site.folder, arguments.keep, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock")
                    )
                site.clean()
    finally:
        engine.close()
    print("\n| what | found | wanted | |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row.what} | {row.found} | {row.wanted} | {'ok' if row.is_right else 'WRONG'} |")
    return 0 if all(row.is_right for row in rows) else 1


def _interrupted(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def soak(site: Site, length_s: float, rate: float, seed: int) -> list[Row]:
    """The whole run; the daemon has ended when it returns, containers are still there."""
    site.write(site.text())
    site.begin()
    until("the first answer", site.answers)
    until("rest", lambda: site.status()["state"] == "converged")
    for container in site.containers("app"):
        site.meet(container.id)
    clients, watcher, operations = Clients(site, rate), Watcher(site), Operations(site, seed)
    done: list[Done] = []
    began = time.monotonic()
    with watcher.watching(), clients.asking():
        while (age := time.monotonic() - began) < length_s:
            operations.may_kill = not length_s / 6 < age < length_s * 5 / 6
            done.append(operations.one())
            tell(done[-1], clients)
    length_s = time.monotonic() - began
    code = site.stop()
    return [
        *_traffic(clients, rate, length_s),
        *_operations(done, site, code),
        *_growth(watcher),
        *_history(site),
    ]


def tell(done: Done, clients: Clients) -> None:
    """A line for the operation, and one for each request that nothing explains."""
    now = time.strftime("%H:%M:%S", time.gmtime())
    print(f"{now}  {done.took_s:5.0f} s  {done.what}: {done.end}  {done.trouble}".rstrip(), flush=True)
    for failure, answer in clients.judge():
        print(f"{now}  UNEXPLAINED {failure} {answer}", flush=True)


# ---------------------------------------------------------------- the verdict


def _traffic(clients: Clients, rate: float, length_s: float) -> list[Row]:
    lost = len(clients.unexplained)
    explained = "; ".join(f"{count:,} {why}" for why, count in clients.explained.most_common()) or "none"
    asked = clients.total / length_s
    return [
        Row("failed requests that nothing explains", f"{lost} of {clients.total:,}", "0", lost == 0),
        Row("failed and explained", explained, "-", True),
        Row("requests a second", f"{asked:.1f}", f"≥ {rate * 0.8:g}", asked >= rate * 0.8),
        Row("slowest request", f"{clients.slowest_s:.2f} s", "-", True),
    ]


def _operations(done: list[Done], site: Site, code: int) -> list[Row]:
    troubles = [one for one in done if one.trouble]
    ends = Counter(one.end for one in done)
    log = site.log.read_text(errors="replace")
    bugs = log.count("Traceback") + log.count("bug: ")
    recoveries = sorted(site.recoveries_s[1:])
    back = f"p50 {statistics.median(recoveries):.1f} s, worst {recoveries[-1]:.1f} s" if recoveries else "-"
    return [
        Row(
            f"operations ({', '.join(f'{count} {end}' for end, count in ends.most_common())})",
            f"{len(done)}, {len(troubles)} ended wrong",
            "0 wrong",
            not troubles,
        ),
        Row(
            "daemon killed (SIGKILL) and started again", f"{len(recoveries)} times; first cycle after {back}", "-", True
        ),
        Row(
            "daemon's exit code at the end; tracebacks and bugs in its log",
            f"{code}; {bugs}",
            "0; 0",
            (code, bugs) == (0, 0),
        ),
    ]


def _growth(watcher: Watcher) -> list[Row]:
    life = longest_life(watcher.samples)
    rows = []
    for what, value, most in (
        ("resident memory, MB", lambda s: s.rss_mb, 3.0),
        ("open descriptors", lambda s: float(s.descriptors), 2.0),
        ("threads (pools fill up)", lambda s: float(s.threads), 6.0),
        ("containers of the project", lambda s: float(s.containers), 2.0),
        ("files of the state", lambda s: float(s.state_files), 60.0),
    ):
        found = growth(life, value)
        rows.append(_flat(what, found, most))
    sizes = [s.state_mb for s in watcher.samples]
    if sizes:
        rows.append(Row("state on disk", f"{sizes[0]:.1f} → {sizes[-1]:.1f} MB", "-", True))
    return rows


def _flat(what: str, found: Growth | None, most: float) -> Row:
    if found is None:
        return Row(f"growth: {what}", "the run was too short to say", "-", True)
    told = f"{found.first:.1f} → {found.last:.1f} ({found.per_hour:+.1f} an hour, over {found.span_s / 60:.0f} min)"
    return Row(f"growth: {what}", told, f"≤ {most:g} more", found.more <= most)


def _history(site: Site) -> list[Row]:
    said = site.run("verify", "--full", "-o", "json", timeout_s=600)
    try:
        verdict = json.loads(said.stdout)
    except ValueError:
        verdict = {"whole": False, "records": 0}
    alone = subprocess.run(
        [sys.executable, str(VERIFIER), str(site.folder / "state")], capture_output=True, check=False
    )
    is_right = said.returncode == 0 and bool(verdict["whole"]) and alone.returncode == 0
    told = "whole" if verdict["whole"] else "NOT whole"
    found = f"{verdict['records']:,} records, {told}; stand-alone verifier: {alone.returncode}"
    return [Row("history", found, "whole; 0", is_right)]


if __name__ == "__main__":
    sys.exit(main())
