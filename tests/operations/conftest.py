"""A fresh desk, one with the first release deployed, and one with a canary beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.core.rollout import Phase
from reconciler.operations import Exit
from tests.operations.desk_world import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def deployed(desk: Desk) -> Desk:
    assert desk.ask("deploy")[0] is Exit.OK
    return desk


@pytest.fixture
def tried(deployed: Desk) -> Desk:
    """A canary of a newer revision that the manifest keeps, with requests to judge it by."""
    deployed.world.traffic.rate = 20.0
    deployed.wants("demo:2", "canary")
    deployed.reaches(Phase.ANALYZING)
    deployed.goes_on(40)
    return deployed
