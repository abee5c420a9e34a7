"""A fresh desk, and one with the first release deployed."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.operations import Exit
from tests.operations.desk_world import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def deployed(desk: Desk) -> Desk:
    assert desk.ask("deploy")[0] is Exit.OK
    return desk
