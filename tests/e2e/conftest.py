"""Real stacks for the tests of this folder; what a failed one left behind is kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.e2e.stack import Stack, wait_for

ARTEFACTS = Path(__file__).resolve().parents[2] / ".cache" / "e2e-artefacts"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.engine)


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    setattr(item, f"report_{report.when}", report)
    return report


def _kept_on_failure(request: pytest.FixtureRequest, stack: Stack) -> None:
    """Copy what tells what happened to where CI can be asked for it."""
    report = getattr(request.node, "report_call", None)
    if report is None or not report.failed:
        return
    target = ARTEFACTS / request.node.name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(stack.folder, target, ignore_dangling_symlinks=True, ignore=shutil.ignore_patterns("*.sock"))


@pytest.fixture
def stack(request: pytest.FixtureRequest, tmp_path: Path, engine: docker.DockerClient) -> Iterator[Stack]:
    """A project that is gone afterwards."""
    made = Stack(tmp_path, engine)
    try:
        yield made
    finally:
        _kept_on_failure(request, made)
        made.clean()


@pytest.fixture
def deployed(stack: Stack) -> Stack:
    """A project that runs, under a daemon."""
    stack.start()
    wait_for("the first answer through nginx", stack.answers)
    stack.wait_converged()
    return stack
