"""Real processes of the sample service on free ports of the loopback; no engine needed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from workload_client import Workload

StartWorkload = Callable[..., Workload]


@pytest.fixture
def start_workload(tmp_path: Path) -> Iterator[StartWorkload]:
    """Starts processes with the environment given; whatever still runs at the end of the test is killed."""
    started: list[Workload] = []

    def start(**environment: str) -> Workload:
        started.append(Workload(**{"LOG_DIR": str(tmp_path / "absent"), **environment}))
        return started[-1]

    yield start
    for workload in started:
        workload.kill()


@pytest.fixture(scope="session")
def shared_canary() -> Iterator[Workload]:
    workload = Workload(MODE="canary", LOG_DIR="/absent")
    yield workload
    workload.kill()


@pytest.fixture
def canary(shared_canary: Workload) -> Iterator[Workload]:
    """A canary without chaos, that other tests use as well: its counters do not start at zero."""
    yield shared_canary
    shared_canary.inject({"mode": "recover"})


@pytest.fixture(scope="session")
def stable() -> Iterator[Workload]:
    workload = Workload(LOG_DIR="/absent")
    yield workload
    workload.kill()
