"""What it costs to count nginx's log."""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from pathlib import Path

from reconciler.adapters.ingress_metrics import IngressMetrics
from reconciler.core.containers import PROXY_LOG
from reconciler.core.desired import Service
from reconciler.core.evidence.readings import Reading
from reconciler.core.observed import ObservedContainer, Slot, Status
from reconciler.ports import MeasureTarget

LINES_PER_S = 5_000
CYCLE_S = 5
CYCLES = 20
TARGET_SHARE = 0.10

_NGINX = ObservedContainer("n", "bench-nginx", "nginx", "r", Status.RUNNING, pid=1)


def ingress_cost() -> tuple[float, int]:
    """CPU seconds per second of traffic at LINES_PER_S, and lines counted; the median of CYCLES looks of CYCLE_S each.

    Latencies are spread wide, one request in fifty fails, one in two hundred is tried twice.
    """
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        proc = Path(folder)
        log = _stage(proc)
        targets = [_target(number, slot) for number, slot in enumerate((Slot.BLUE, Slot.BLUE, Slot.GREEN))]
        metrics = IngressMetrics(proc=proc)
        metrics.read(targets, _NGINX)
        costs = []
        for cycle in range(CYCLES):
            text = _lines(random.Random(cycle), LINES_PER_S * CYCLE_S)
            with log.open("ab") as file:
                file.write(text)
            began = time.process_time()
            found = metrics.read(targets, _NGINX)
            costs.append((time.process_time() - began) / CYCLE_S)
        counted = sum(sum(each.requests.values()) for each in found.values() if isinstance(each, Reading))
        return statistics.median(costs), counted


def _stage(proc: Path) -> Path:
    folder = proc / f"1/root{PROXY_LOG}"
    folder.mkdir(parents=True)
    device = folder.stat().st_dev
    mount = f"1 1 {os.major(device)}:{os.minor(device)} / {PROXY_LOG} rw - tmpfs tmpfs rw\n"
    (proc / "1/mountinfo").write_text(mount)
    log = folder / "evidence.log"
    log.touch()
    return log


def _target(number: int, slot: Slot) -> MeasureTarget:
    started = "2027-01-15T08:00:00Z"
    container = ObservedContainer(
        f"c{number}", "x", "app", "r", Status.RUNNING, slot=slot, address=f"10.0.0.{number}", started_at=started
    )
    return MeasureTarget(container, Service("app", "demo:1", 3000))


def _lines(chance: random.Random, count: int) -> bytes:
    return "".join(_line(chance) for _ in range(count)).encode("ascii")


def _line(chance: random.Random) -> str:
    address, took = f"10.0.0.{chance.randrange(3)}:3000", f"{chance.lognormvariate(-3.5, 1):.3f}"
    if chance.random() < 1 / 200:
        return f"~{address}, 10.0.0.2:3000|502, 200|-, {took}|0.001, {took}\n"
    return f"~{address}|{500 if chance.random() < 1 / 50 else 200}|{took}|{took}\n"


if __name__ == "__main__":
    share, lines = ingress_cost()
    print(f"{share:.2%} of a core at {LINES_PER_S} requests/s ({lines} counted); wanted: at most {TARGET_SHARE:.0%}")
