"""What lies beside the manifest is a part of it: a change of it that was not let in is not deployed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.operations import Exit
from tests.operations.desk_world import GOOD, Desk


def greets(folder: Path, word: str) -> None:
    (folder / "app.env").write_text(f"GREETING={word}\n", encoding="utf-8")
    os.utime(folder / "app.env", (0, 0))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    greets(tmp_path, "old")
    made = Desk(tmp_path)
    made.write(GOOD.replace("  port: 3000", "  port: 3000\n  env_file: app.env"))
    assert made.ask("deploy")[0] is Exit.OK
    greets(tmp_path, "new")
    return made


def greetings(desk: Desk) -> set[str | None]:
    """What those who serve were started with."""
    return {dict(box.request.spec.environment).get("GREETING") for box in desk.world.boxes() if desk.world.is_well(box)}


def test_a_change_of_an_env_file_alone_is_deployed(desk: Desk) -> None:
    desk.world.traffic.rate = 50.0
    assert desk.ask("deploy")[0] is Exit.OK
    assert greetings(desk) == {"new"}


def test_one_that_admission_denies_is_denied_and_not_called_a_success(desk: Desk) -> None:
    desk.world.says("admission", allow=False, reason="not on Fridays")
    code, events = desk.ask("deploy")
    assert (code, events[-1]["text"]) == (Exit.DENIED, "DENIED: not on Fridays")
    assert greetings(desk) == {"old"}
