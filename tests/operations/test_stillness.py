"""Suspending everything, sync windows, and breaking the glass: what is left undone, what is not, and how it is told."""

from __future__ import annotations

import pytest

from reconciler.core.errors import Refused
from reconciler.core.rollout import Phase
from reconciler.operations import Exit
from reconciler.operations.stillness import ENDED_BY_RESUME, GLASS_S
from tests.operations.desk_world import GOOD, Desk

SHUT = GOOD + "sync: {windows: [{kind: deny, schedule: '0 0 * * *', duration: 24h, reason: inventory}]}\n"
NIGHTLY = GOOD + "sync: {windows: [{kind: allow, schedule: '10 0 * * *', duration: 1h}]}\n"


def kills_the_container(desk: Desk) -> None:
    boxes = desk.world.engine.boxes
    (mine,) = [key for key, box in boxes.items() if "-app-" in box.name]
    del boxes[mine]


# ---------------------------------------------------------------- suspend


def test_nothing_is_changed_while_suspended_and_all_of_it_is_made_up_for_after(deployed: Desk) -> None:
    code, events = deployed.ask("suspend", reason="moving the disk")
    assert (code, events[-1]["text"]) == (Exit.OK, "Suspended until `resume`: nothing is changed.")
    deployed.wants("demo:2")
    kills_the_container(deployed)
    before = set(deployed.world.engine.boxes)
    deployed.goes_on(600)
    assert set(deployed.world.engine.boxes) == before
    assert deployed.loop.memory.last_good is not None
    assert deployed.loop.memory.last_good.services[0].image == "demo:1", "a manifest was let in"
    assert deployed.ask("resume")[1][-1]["text"] == "The suspension is over."
    deployed.reaches(Phase.ANALYZING)
    assert deployed.images() == ["demo:1", "demo:2"]


def test_with_heal_what_was_approved_is_brought_back_and_no_more(deployed: Desk) -> None:
    assert deployed.ask("suspend", reason="audit", heal=True)[0] is Exit.OK
    deployed.wants("demo:2")
    kills_the_container(deployed)
    deployed.goes_on(600)
    assert deployed.images() == ["demo:1"]


def test_a_suspension_may_have_an_end(deployed: Desk) -> None:
    code, events = deployed.ask("suspend", reason="lunch", for_s=3600)
    assert (code, events[-1]["text"]) == (Exit.OK, "Suspended for 3600 s: nothing is changed.")
    deployed.wants("demo:2")
    deployed.goes_on(3500)
    assert deployed.app.phase is Phase.STABLE
    deployed.goes_on(300)
    assert deployed.images() == ["demo:1", "demo:2"]
    assert deployed.status()["suspended"] is None


def test_a_suspension_is_told_and_recorded_and_outlives_the_process(deployed: Desk) -> None:
    deployed.ask("suspend", reason="moving the disk")
    shown = deployed.status()["suspended"]
    assert shown == {"actor": "ann", "reason": "moving the disk", "until": None, "heals": False}
    assert deployed.world.store.load().suspended is not None
    said = [word for record in deployed.world.records for word in record.get("words", ())]
    assert [(word["word"], word["actor"], word["reason"]) for word in said][-1:] == [
        ("suspend", "ann", "moving the disk")
    ]
    deployed.goes_on(60)
    assert deployed.loop.latest is not None
    assert deployed.loop.latest.plan.notes == ("suspended by ann: moving the disk; nothing is changed",)
    assert deployed.status()["state"] == "suspended"


def test_a_canary_stays_where_it_is_even_if_policy_condemns_it(deployed: Desk) -> None:
    deployed.wants("demo:2")
    deployed.reaches(Phase.ANALYZING)
    weight = deployed.app.weight_pct
    deployed.ask("suspend", reason="audit")
    deployed.world.says("canary", allow=False, reason="bad", action="rollback")
    deployed.goes_on(120)
    assert (deployed.app.phase, deployed.app.weight_pct) == (Phase.ANALYZING, weight)


@pytest.mark.parametrize("verb", sorted(ENDED_BY_RESUME))
def test_words_that_act_are_refused_while_suspended(deployed: Desk, verb: str) -> None:
    deployed.ask("suspend", reason="audit")
    with pytest.raises(Refused, match=r"suspended by ann: audit\. `resume` first"):
        deployed.ask(verb, reason="because")


def test_suspending_needs_a_reason(deployed: Desk) -> None:
    with pytest.raises(Refused, match="needs a --reason"):
        deployed.ask("suspend")


# ---------------------------------------------------------------- sync windows


def test_no_rollout_begins_while_a_window_denies_and_it_is_said_which(deployed: Desk) -> None:
    deployed.write(SHUT.replace("demo:1", "demo:2"))
    deployed.goes_on(600)
    assert (deployed.app.phase, deployed.images()) == (Phase.STABLE, ["demo:1"])
    (service,) = deployed.status()["services"]
    assert 'inside the deny window "inventory" (0 0 * * * UTC, 24h)' in service["reason"]
    assert '`deploy --break-glass --reason "why"` begins now' in service["reason"]
    assert deployed.status()["windows"]["app"]["open"] is False


def test_a_rollout_under_way_goes_on_and_what_falls_is_healed(deployed: Desk) -> None:
    deployed.world.traffic.rate = 100.0
    deployed.wants("demo:2")
    deployed.reaches(Phase.ANALYZING)
    text = deployed.path.read_text()
    deployed.write(text + SHUT.removeprefix(GOOD))
    deployed.reaches(Phase.WATCHING)
    boxes = deployed.world.engine.boxes
    for key in [key for key, box in boxes.items() if "-app-" in box.name and box.request.spec.image == "demo:2"]:
        del boxes[key]
    deployed.goes_on(60)
    assert "demo:2" in deployed.images()


def test_it_begins_by_itself_when_the_window_opens(deployed: Desk) -> None:
    deployed.write(NIGHTLY.replace("demo:1", "demo:2"))
    deployed.goes_on(500)
    assert deployed.images() == ["demo:1"]
    deployed.goes_on(200)
    assert deployed.images() != ["demo:1"]


def test_glass_can_be_broken_with_a_reason_for_one_beginning(deployed: Desk) -> None:
    deployed.write(SHUT.replace("demo:1", "demo:2"))
    with pytest.raises(Refused, match="needs a --reason"):
        deployed.ask("deploy", break_glass=True)
    deployed.world.traffic.rate = 100.0
    deployed.ask("deploy", break_glass=True, reason="CVE", timeout_s=5)
    assert deployed.images() == ["demo:1", "demo:2"]
    deployed.reaches(Phase.STABLE)
    deployed.write(SHUT.replace("demo:1", "demo:3"))
    deployed.goes_on(600)
    assert deployed.images() == ["demo:2"], "one beginning only"


def test_broken_glass_is_whole_again_after_a_while(deployed: Desk) -> None:
    deployed.write(SHUT)
    deployed.ask("deploy", break_glass=True, reason="CVE")
    deployed.goes_on(GLASS_S + 60)
    deployed.write(SHUT.replace("demo:1", "demo:2"))
    deployed.goes_on(600)
    assert deployed.images() == ["demo:1"]
