"""What is written down: an intent before every act, news once, and quiet times as one record."""

from __future__ import annotations

import pytest

from reconciler.core.provenance import Commit
from reconciler.core.record import Trigger
from reconciler.core.words import Deploy
from reconciler.cycle import flushed, look, preview
from reconciler.ports import Loaded
from tests.cycle.cycle_world import V1, V2, World


@pytest.fixture
def deployed() -> World:
    world = World()
    world.converge()
    world.cycle()
    world.memory = flushed(world.ports, world.memory)
    world.records.clear()
    return world


@pytest.mark.fault("A3")
def test_an_intent_is_on_disk_before_the_first_act_of_every_cycle_that_acts() -> None:
    world = World()
    acted: list[tuple[str, str]] = []

    def note(name: str) -> None:
        if name.split()[1] not in ("append", "save", "keep", "admit"):
            acted.append((name, world.kinds()[-1] if world.records else "nothing"))

    world.around = note
    world.converge()
    world.wants(V2)
    world.converge()
    assert acted
    assert {kind for _, kind in acted} == {"intent"}
    intents = {record["number"] for record in world.records if record["kind"] == "intent"}
    assert intents <= {record["number"] for record in world.records if record["kind"] == "cycle"}


def test_cycles_that_only_wait_for_nginx_write_nothing(deployed: World) -> None:
    deployed.wants(V2)
    deployed.nginx.drain_s = 3.0
    deployed.until(lambda _: bool(deployed.nginx.old))
    before = len(deployed.records)
    deployed.until(lambda _: not deployed.nginx.old)
    assert len(deployed.records) - before <= 4


def test_an_intent_names_what_will_be_done_and_no_waits(deployed: World) -> None:
    deployed.wants(V2)
    deployed.until(lambda cycle: bool(cycle.plan))
    (intent,) = (record for record in deployed.records if record["kind"] == "intent")
    assert any(step.startswith("create demo-app-green") for step in intent["plan"])
    assert not any(step.startswith("wait") for step in intent["plan"])


def test_cycles_in_which_nothing_happens_become_one_record(deployed: World) -> None:
    for _ in range(50):
        deployed.cycle()
    assert deployed.records == []
    deployed.memory = flushed(deployed.ports, deployed.memory)
    (record,) = deployed.records
    assert (record["kind"], record["count"], record["mode"], record["policy"]) == ("idle", 50, "stable", "PASS")


def test_idle_cycles_are_written_before_what_ends_them(deployed: World) -> None:
    for _ in range(5):
        deployed.cycle()
    deployed.wants(V2)
    deployed.until(lambda cycle: bool(cycle.plan))
    assert deployed.kinds()[0] == "idle"
    assert [r.get("number", 0) for r in deployed.records] == sorted(r.get("number", 0) for r in deployed.records)


def test_the_same_problem_is_recorded_once_and_its_end_too(deployed: World) -> None:
    deployed.wants(None, "tabs are not allowed")
    for _ in range(5):
        deployed.cycle()
    assert [record["problems"] for record in deployed.records] == [["manifest.yaml:1:1: tabs are not allowed"]]
    deployed.wants(None, "another mistake")
    for _ in range(5):
        deployed.cycle()
    assert [r["problems"] for r in deployed.records if r["kind"] == "cycle"][1:] == [
        ["manifest.yaml:1:1: another mistake"]
    ]


def test_waiting_cycles_of_one_rollout_are_not_a_record_each(deployed: World) -> None:
    deployed.sick = {"demo:2"}
    deployed.wants(V2)
    deployed.until(lambda _: "demo:2" in deployed.images())
    before = len(deployed.records)
    for _ in range(30):
        deployed.cycle()
    assert len(deployed.records) - before <= 2


def test_looking_changes_and_records_nothing(deployed: World) -> None:
    acts: list[str] = []
    deployed.around = acts.append
    deployed.wants(V2)
    trigger = Trigger("operator", "diff")
    seen = look(deployed.ports, deployed.setting, deployed.memory, trigger)
    cycle, view = preview(deployed.ports, deployed.setting, deployed.memory, trigger)
    assert view is not None
    assert (str(seen.plan), acts, deployed.records) == ("", [], [])
    assert any(line.startswith("create demo-app-green") for line in str(cycle.plan).splitlines())
    assert (deployed.store.rollout, deployed.store.good) == (deployed.memory.rollout, deployed.memory.last_good)


def test_an_operators_word_is_in_the_record_with_who_said_it(deployed: World) -> None:
    from reconciler.cycle import run_cycle

    trigger = Trigger("operator", "deploy", actor="uid 1000", reason="try again")
    cycle, _ = run_cycle(deployed.ports, deployed.setting, deployed.memory, trigger, (Deploy(),))
    assert cycle.trigger.actor == "uid 1000"


def test_the_commit_in_force_is_known_after_a_restart_while_a_newer_one_is_not_let_in() -> None:
    ours, newer = (Commit(name * 40, "ann", "why", "2026-11-23T00:00:00Z", None, "git") for name in "ab")
    world = World()
    world.loaded = Loaded("", V1, commit=ours)
    world.converge()
    world.says("admission", allow=False, reason="not on Fridays")
    world.loaded = Loaded("b", V2, commit=newer)
    world.cycle()
    world.restart()
    (box,) = world.boxes()
    world.engine.destroy(box.id)
    world.converge()
    (healed,) = world.boxes()
    assert healed.labels["io.swiftdeploy.commit"] == ours.id
    assert {record["commit"]["id"] for record in world.records if record.get("commit")} == {ours.id}
    assert world.memory.commit == ours
