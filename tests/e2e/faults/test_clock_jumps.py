"""The wall clock jumps in the middle of a rollout: nothing is promoted, given up or forgotten because of that."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import docker
import pytest

from tests.e2e.faults import tools
from tests.e2e.faults.crash_stack import CrashStack, traffic
from tests.e2e.faults.engine_proxy import EngineProxy, rewritten
from tests.e2e.stack import wait_for

LIMIT_S = 240.0
STEP_S, WATCH_S = 5, 5
ROLLOUT = f"rollout: {{steps: [{{weight: 80, duration: {STEP_S}s}}], watch: {WATCH_S}s, health_deadline: 30s}}"
EVIDENCE = "  canary: {warmup_seconds: 1, min_evidence_seconds: 2, min_requests: 20}\n"
TEN_YEARS_S = 10 * 365 * 24 * 3600


STAMP = re.compile(rb'"(StartedAt|FinishedAt)":"(20\d\d-[^".Z]+)')


class Clocks(CrashStack):
    """A stack whose daemon and engine have a wall clock of their own; the monotonic one is the machine's.

    The daemon's is libfaketime's; what the engine says about when a container started is moved on its way.
    """

    def __init__(self, folder: Path, engine: docker.DockerClient, proxy: EngineProxy) -> None:
        self._shift = folder / "shift"
        self._jumps = [(0.0, 0)]
        proxy.harm(rewritten(self._as_the_engine_would_say), "GET", r"/containers/[^/]+/json", None)
        preloaded = {
            "LD_PRELOAD": tools.faketime(),
            "FAKETIME_TIMESTAMP_FILE": str(self._shift),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DOCKER_HOST": f"unix://{proxy.server_address!s}",
        }
        super().__init__(folder, engine, preloaded)
        self.jump(0)

    def jump(self, seconds: int) -> None:
        """From now on the wall clock is that far from the machine's."""
        self._jumps.append((time.time(), seconds))
        new = self.folder / ".shift"
        new.write_text(f"{seconds:+d}\n")
        os.replace(new, self._shift)

    def _as_the_engine_would_say(self, body: bytes) -> bytes:
        def moved(found: re.Match[bytes]) -> bytes:
            moment = datetime.fromisoformat(found[2].decode()).replace(tzinfo=UTC)
            shift = next(by for at, by in reversed(self._jumps) if moment.timestamp() + 1 > at)
            text = (moment + timedelta(seconds=shift)).strftime("%Y-%m-%dT%H:%M:%S")
            return b'"%b":"%b' % (found[1], text.encode())

        return STAMP.sub(moved, body)

    def in_phase(self, phase: str) -> bool:
        return bool(self.last_cycle().get("phase") == phase)

    def lasted_s(self, phase: str) -> float:
        """How long the last stay in `phase` was, by the clock that never jumps."""
        cycles = [line for line in self.journal() if line["kind"] == "cycle"]
        end = max(index for index, line in enumerate(cycles) if line["phase"] == phase) + 1
        begin = end
        while begin and cycles[begin - 1]["phase"] == phase:
            begin -= 1
        return float(cycles[end]["at"] - cycles[begin]["at"])


@pytest.fixture
def stack(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, engine: docker.DockerClient) -> Iterator[Clocks]:
    with EngineProxy(tmp_path_factory.mktemp("s") / "e.sock") as proxy:
        yield from _deployed(Clocks(tmp_path, engine, proxy))


def _deployed(made: Clocks) -> Iterator[Clocks]:
    try:
        made.write(made.manifest(EVIDENCE, service=ROLLOUT))
        made.start()
        wait_for("deployed", lambda: made.rests("1.0.0"), LIMIT_S)
        yield made
    finally:
        made.clean()


JUMPS = {"2.0.0": ("watching", TEN_YEARS_S)}
"""In which phase of the rollout of each version the clock jumps, and where to: the jump that every timer would see.

Others, in other phases: tests/cycle/test_rollout_walks.py.
"""


@pytest.mark.fault("D1", "D4")
def test_a_clock_that_jumps_must_neither_hurry_nor_hold_up_a_rollout(stack: Clocks) -> None:
    with traffic(stack.port, 120) as client:
        for version, (phase, shift) in JUMPS.items():
            stack.write(stack.manifest(EVIDENCE, service=f'version: "{version}"\n{ROLLOUT}'))
            wait_for(f"{phase} of {version}", partial(stack.in_phase, phase), LIMIT_S)
            stack.jump(shift)
            wait_for(f"version {version}, the clock at {shift:+d} s", partial(stack.rests, version), LIMIT_S)
            assert stack.lasted_s("analyzing") >= STEP_S, version
            assert stack.lasted_s("watching") >= WATCH_S, version
            assert stack.last_cycle()["quarantined"] == []
    assert client.failed == {}
    assert len(stack.containers("app")) == 1
    assert stack.history_is_whole() == ""
    assert stack.deaths == []
