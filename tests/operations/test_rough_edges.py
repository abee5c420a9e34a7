"""What an operator reads where something went wrong at first: said plainly, once, with what to do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from reconciler.core.errors import Refused
from reconciler.core.rollout import Phase
from reconciler.cycle import Memory
from reconciler.operations import Exit, Misused
from reconciler.operations import desk as desk_module
from reconciler.operations.progress import Failure
from tests.operations.desk_world import GOOD, Desk, lines

# ---------------------------------------------------------------- a first deployment that came to nothing


def test_rolling_back_a_first_deployment_says_that_nothing_runs_and_what_to_do(desk: Desk) -> None:
    desk.world.sick = {"demo:1"}
    desk.loop.wake(*_deployed())
    desk.reaches(Phase.STARTING)
    code, events = desk.ask("rollback")
    assert (code, desk.app.phase) == (Exit.OK, Phase.ABSENT)
    assert events[-1]["text"] == (
        "The first deployment of app was taken back: nothing of it runs, and there is no older revision. "
        "Change the service in the manifest and `deploy` it; `retry` tries the same one again."
    )


def test_once_it_is_taken_back_a_roll_back_says_the_same(desk: Desk) -> None:
    desk.world.sick = {"demo:1"}
    assert desk.ask("deploy")[0] is Exit.UNHEALTHY
    with pytest.raises(Refused, match="its first deployment was taken back"):
        desk.ask("rollback")


def test_where_an_older_revision_runs_the_roll_back_names_it(deployed: Desk) -> None:
    before = deployed.app.stable
    deployed.wants("demo:2")
    deployed.reaches(Phase.ANALYZING)
    _, events = deployed.ask("rollback")
    assert before is not None
    assert events[-1]["text"] == f"Rolled back: app runs {before.revision[:12]}"


def _deployed() -> Any:
    from reconciler.core.record import Trigger
    from reconciler.core.words import Deploy

    return Trigger("operator", "deploy"), Deploy()


# ---------------------------------------------------------------- said once


def test_a_manifest_that_is_wrong_is_all_that_a_deployment_says(
    deployed: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_module, "_news", lambda cycle: ["local/nginx:1 stands in for nginx:1.30"])
    deployed.write(GOOD.replace("port: 3000", "port: 99999"))
    _, events = deployed.ask("deploy")
    assert [event["event"] for event in events] == ["end"]
    deployed.write(GOOD)
    assert "stands in for" in lines(deployed.ask("deploy")[1])


def test_an_image_that_cannot_be_had_is_said_once(desk: Desk) -> None:
    desk.write(GOOD.replace("demo:1", "nosuch:9"))
    code, events = desk.ask("deploy")
    assert (code, events[-1]["text"]) == (Exit.ERROR, "image nosuch:9 cannot be pulled: no registry has it.")
    assert "cannot be pulled" not in lines(events)


@pytest.mark.parametrize("domain", ["admission", "infrastructure"])
def test_a_denial_is_said_once(desk: Desk, domain: str) -> None:
    desk.world.says(domain, allow=False, reason="Disk space below 10GB", known=True)
    _, events = desk.ask("deploy")
    assert sum("Disk space below 10GB" in event.get("text", "") for event in events) == 1


@pytest.mark.parametrize(
    ("news", "is_told"),
    [
        ("app: DENIED: Disk space below 10GB", True),
        ("DENIED: Disk space below 10GB", True),
        ("app: waiting for the policy engine", False),
    ],
)
def test_news_that_the_failure_tells_is_none(news: str, is_told: bool) -> None:
    assert Failure(Exit.DENIED, "DENIED: Disk space below 10GB").tells(news) is is_told


# ---------------------------------------------------------------- wrong usage


@pytest.mark.parametrize(
    ("verb", "args"),
    [
        ("suspend", {}),
        ("suspend", {"reason": "\u200b"}),
        ("retry", {"reason": " "}),
        ("deploy", {"break_glass": True}),
        ("promote", {"mode": "sideways"}),
    ],
)
def test_a_request_that_never_makes_sense_is_wrong_usage(deployed: Desk, verb: str, args: dict[str, Any]) -> None:
    with pytest.raises(Misused):
        deployed.ask(verb, **args)


# ---------------------------------------------------------------- why


def test_why_tells_of_daemon_and_manifest(deployed: Desk) -> None:
    value = deployed.ask("why")[1][-1]["value"]
    assert (bool(value["daemon"]), value["problems"], value["is_rebuilt"]) == (True, [], False)
    deployed.write(GOOD.replace("port: 3000", "port: 99999"))
    deployed.goes_on(1)
    assert "99999" in deployed.ask("why")[1][-1]["value"]["problems"][0]


def test_why_tells_that_the_state_was_lost(deployed: Desk) -> None:
    deployed.loop.memory = Memory()
    deployed.goes_on(10)
    assert deployed.app.phase is Phase.STABLE
    assert deployed.ask("why")[1][-1]["value"]["is_rebuilt"] is True
    deployed.wants("demo:2")
    deployed.loop.memory = Memory()
    deployed.goes_on(10)
    value = deployed.ask("why")[1][-1]["value"]
    assert (value["is_rebuilt"], "`resume` goes on" in value["reason"]) == (True, True)


def test_once_something_new_was_rolled_out_it_is_known_again(deployed: Desk) -> None:
    deployed.loop.memory = Memory()
    deployed.goes_on(1)
    deployed.wants("demo:2")
    deployed.reaches(Phase.ANALYZING)
    assert deployed.ask("rollback")[0] is Exit.OK
    assert deployed.ask("why")[1][-1]["value"]["is_rebuilt"] is False


# ---------------------------------------------------------------- diff


def test_a_new_policy_revision_is_compared_with_the_one_before(desk: Desk, tmp_path: Path) -> None:
    rendered = tmp_path / "state" / "rendered" / "opa"
    files = desk.ask("diff")[1][-1]["value"]["files"]
    now = {path: text for path, text in files.items() if path.startswith("opa/")}
    assert all("@@ -0,0 " in text for text in now.values())
    for path, text in now.items():  # as if it had been written
        place = rendered.parent / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("\n".join(line[1:] for line in text.splitlines()[3:]), encoding="utf-8")
    os.utime(rendered / next(iter(now)).split("/")[1], (5, 5))
    older = rendered / ("0" * 12)
    older.mkdir()
    (older / "data.json").write_text("{}", encoding="utf-8")
    os.utime(older, (4, 4))
    desk.write(GOOD + "policy: {infrastructure: {min_disk_free_gb: 3}}\n")
    then = desk.ask("diff")[1][-1]["value"]["files"]
    changed = {path.rsplit("/", 1)[1]: text for path, text in then.items() if path.startswith("opa/")}
    assert {name for name, text in changed.items() if text} == {"data.json"}
    assert "min_disk_free_gb" in changed["data.json"]
    assert "-{}" not in changed["data.json"], "compared with a revision that is older still"
