"""What a canary costs and how fast a bad one is gone, on the real stack. Rows of the table in `bench/__main__.py`."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.measures import Row, ms, stack, timed
from tests.e2e.rollout_stack import variant
from tests.e2e.stack import BIN, IMAGE, Stack, wait_for

TESTS = Path(__file__).resolve().parents[1] / "tests" / "e2e"
QUICK = "rollout: {steps: [{weight: 25, duration: 3s}, {weight: 50, duration: 3s}], watch: 5s, health_deadline: 15s}"
CANARY = "  canary: {warmup_seconds: 2, min_evidence_seconds: 4}\n"
ERRORS_AFTER_S = 25


def manifest(made: Stack, service: str, image: str = IMAGE) -> str:
    return made.manifest(CANARY, service=service).replace(IMAGE, image)


@contextmanager
def site(service: str) -> Iterator[Stack]:
    """A deployed service with quick steps, under a daemon."""
    with stack() as made:
        made.write(manifest(made, service))
        made.start()
        wait_for("the first answer", made.answers)
        made.wait_converged()
        yield made


@contextmanager
def clients(*command: str) -> Iterator[dict[str, int]]:
    """Load in a process of its own; what it counted is there once it has ended."""
    counted: dict[str, int] = {}
    process = subprocess.Popen([sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield counted
    finally:
        out, _ = process.communicate("stop\n", timeout=60)
        counted.update(json.loads(out))


def service_of(made: Stack) -> dict[str, Any]:
    return made.service()


def is_gone() -> Iterator[Row]:
    """A canary at 25 % of 200 requests a second begins to fail half of its requests → its weight is 0."""
    delays = []
    for _ in range(3):
        with site(QUICK) as made, clients(str(TESTS / "steady.py"), str(made.port), "200"):
            slow = QUICK.replace("duration: 3s", "duration: 600s")
            late = f"env: {{FINE_FOR_S: {ERRORS_AFTER_S}}}\n{slow}"
            made.write(manifest(made, late, variant("late")))
            wait_for("the canary", lambda m=made: (service_of(m)["rollout"] or {}).get("weight") == 25)
            (canary,) = [c for c in made.containers("app") if "MODE=canary" in c.attrs["Config"]["Env"]]
            began = _moment(canary.attrs["State"]["StartedAt"]) + ERRORS_AFTER_S
            flags = made.rendered("nginx/live/flags/app")
            wait_for("weight 0", lambda f=flags: not (f / "0").exists(), 90)
            delays.append(time.time() - began)
    worst = max(delays)
    yield Row(
        "200 requests/s, canary at 25 % fails half → weight 0 (3 runs)",
        f"{statistics.median(delays):.1f} s, worst {worst:.1f} s",
        "Flagger 120-180 s, Argo 90-120 s by their defaults",
        "-",
        "≤ 10 s",
        worst <= 10,
    )


def _moment(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def rollouts() -> Iterator[Row]:
    """Whole rollouts (20, or $BENCH_ROLLOUTS), every second one bad, under keep-alive clients that never retry."""
    total_runs = int(os.environ.get("BENCH_ROLLOUTS", "20"))
    ends: list[str] = []
    with site(QUICK) as made, clients(str(TESTS / "swarm.py"), str(made.port), "localhost", "8", "GET,POST") as counted:
        for number in range(total_runs):
            is_bad = number % 2 == 1
            image = variant("errors" if is_bad else "healthy")
            before = len(service_of(made)["quarantined"])
            made.write(manifest(made, f'version: "{number + 2}.0.0"\n{QUICK}', image))

            def over(n: int = number, seen: int = before) -> str:
                now = service_of(made)
                if now["phase"] == "stable" and len(now["quarantined"]) > seen:
                    return "rolled back"
                return "promoted" if now["phase"] == "stable" and now["version"] == f"{n + 2}.0.0" else ""

            ends.append(wait_for(f"rollout {number}", over, 180))
    total = sum(counted.values())
    lost = {what: count for what, count in counted.items() if not what.startswith("200 ")}
    own = sum(count for what, count in lost.items() if what.startswith("500 ") and what.endswith(" canary"))
    rest = sum(lost.values()) - own
    right = [end == ("rolled back" if number % 2 else "promoted") for number, end in enumerate(ends)]
    yield Row(
        f"{total_runs} rollouts, half bad, under load: requests lost",
        f"{rest} of {total:,}; {own:,} answered badly by bad canaries; {sum(right)} of {total_runs} ended right",
        "-",
        "-",
        f"0; {total_runs} of {total_runs}",
        rest == 0 and all(right),
    )


def evaluation() -> Iterator[Row]:
    """One evaluation: two containers scraped, nginx's log read, evidence, OPA, decision."""
    from reconciler import measuring, wiring
    from reconciler.adapters.state_dir import StateDir
    from reconciler.core.decide import Context, decide
    from reconciler.core.record import Trigger
    from reconciler.core.targets import make_targets
    from reconciler.formats.daemon_config import NO_CONFIG
    from reconciler.loop import Wake

    with site(QUICK) as made, clients(str(TESTS / "steady.py"), str(made.port), "100"):
        assert made.run("promote", "canary").returncode == 0
        wait_for("the last step", lambda: (service_of(made)["rollout"] or {}).get("weight") == 50)
        made.stop()
        folder = made.folder / "state"
        with (
            wiring.followed(NO_CONFIG, made.path, folder) as source,
            StateDir(folder) as state,
            wiring.loop_of(folder, source, state, lambda _: None) as loop,
        ):
            cycle = loop.turn([Wake(Trigger("interval"))])
            assert cycle.desired is not None, cycle.errors
            assert cycle.observed is not None, cycle.errors
            desired, observed, ports = cycle.desired, cycle.observed, loop.ports
            revision = next(iter(observed.policies))
            kept = ports.rollouts.kept()
            targets = make_targets(desired, observed.engine.images, kept, loop.setting.layout, ())
            evidence = dict(loop.memory.evidence)
            took = []
            for _ in range(60):
                old = {name: dataclasses.replace(one, asked_at=0.0) for name, one in evidence.items()}

                def once(before: Any = old) -> None:
                    found, measured = measuring.look_at(ports, desired, targets.kept, cycle.rollout, observed, before)
                    judged = measuring.judge(ports, desired, found, measured, revision)
                    decide(cycle.rollout, Context(targets, observed, ports.clock.now(), None, judged.verdicts))

                took.append(timed(once))
                time.sleep(0.05)
    p50 = statistics.median(took)
    yield Row(
        "one evaluation, p50 (2 containers, nginx's log, OPA, decision)", ms(p50), "-", "-", "≤ 15 ms", p50 <= 0.015
    )


def status_and_history() -> Iterator[Row]:
    """`status` beside a history of a few records and of 1,000,000."""
    program = str(BIN / "swiftdeploy")

    def asked(made: Stack) -> float:
        command = [program, "status", "--once"]
        return statistics.median(
            timed(lambda: subprocess.run(command, cwd=made.folder, capture_output=True, check=True)) for _ in range(9)
        )

    with site(QUICK) as made:
        short = asked(made)
        line = made.folder / "state/history.jsonl"
        last = line.read_bytes().splitlines(keepends=True)[-1]
        with line.open("ab") as log:
            for _ in range(100):
                log.write(last * 10_000)
        long = asked(made)
    ratio = long / short
    yield Row(
        "status beside 1,000,000 records", ms(long), f"beside a few: {ms(short)}", f"{ratio:.2f}", "~ 1", ratio < 1.2
    )


def ingress() -> Iterator[Row]:
    """Reading nginx's count of 5,000 requests a second."""
    from bench.ingress import ingress_cost

    share, _ = ingress_cost()
    yield Row("nginx's count at 5,000 requests/s, of one core", f"{share:.2%}", "-", "-", "≤ 10 %", share <= 0.1)


ROWS = {
    "gone": is_gone,
    "rollouts": rollouts,
    "evaluation": evaluation,
    "ingress": ingress,
    "status": status_and_history,
}
