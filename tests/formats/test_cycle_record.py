"""A cycle as the JSON that is kept: the guide's fields on top, everything said once, and a voice without numbers."""

from __future__ import annotations

import dataclasses
import json

import pytest

from reconciler.core.desired import Mode
from reconciler.core.errors import Problem
from reconciler.core.observed import ObservedImage
from reconciler.core.plan import OK, Outcome, Plan, PlannedAction, PullImage, Result, WaitProxy
from reconciler.core.record import Cycle, Trigger, Verdict, Violation
from reconciler.core.rollout import Decision, Move, Rollout
from reconciler.formats import cycle_record
from tests.builders import IMAGES, container, desired, observed, release, rollout, service, state

ACT = PlannedAction(PullImage("demo:1"), "demo:1", "not here")
WAIT = PlannedAction(WaitProxy("h", True), "nginx", "reloading", (0,))
DENY = Verdict("infrastructure", False, "Disk space below 10GB", violations=(Violation("disk", "low", "5", "10"),))
CYCLE = Cycle(
    7,
    Trigger("operator", "deploy", "ann", "try again"),
    "2026-01-01T00:00:00.000Z",
    "2026-01-01T00:00:01.000Z",
    12.345,
    desired(),
    observed(container()),
    rollout(),
    verdicts=(DENY,),
    decisions=(Decision("app", Move.HOLD, "DENIED: Disk space below 10GB"),),
    plan=Plan((ACT, WAIT)),
    results=(OK, Result(Outcome.SKIPPED)),
)


def changed(**changes: object) -> Cycle:
    return dataclasses.replace(CYCLE, **changes)


def test_the_guides_fields_are_at_the_top_and_always_there() -> None:
    for cycle in (CYCLE, Cycle(1, Trigger("start"), "t", "t", 0.0, None, None, Rollout())):
        record = json.loads(json.dumps(cycle_record.finished(cycle), allow_nan=False))
        assert {"timestamp", "mode", "req_per_sec", "p99_latency", "error_rate", "policy"} <= set(record)
        assert record.keys() == cycle_record.finished(CYCLE).keys()


def test_a_record_tells_who_asked_what_was_decided_and_how_it_ended() -> None:
    record = cycle_record.finished(CYCLE)
    assert record["trigger"] == {"kind": "operator", "detail": "deploy", "actor": "ann", "reason": "try again"}
    assert record["actions"] == [
        {"verb": "pull", "target": "demo:1", "cause": "not here", "outcome": "ok", "detail": ""},
        {"verb": "wait for", "target": "nginx", "cause": "reloading", "outcome": "skipped", "detail": ""},
    ]
    assert record["verdicts"][0]["violations"] == [{"id": "disk", "message": "low", "observed": "5", "limit": "10"}]  # type: ignore[index, call-overload]
    assert record["decisions"] == [
        {"service": "app", "move": "hold", "reason": "DENIED: Disk space below 10GB", "release": None}
    ]


@pytest.mark.parametrize(
    ("verdicts", "word"),
    [((), None), ((Verdict("admission", True, ""),), "PASS"), ((Verdict("admission", True, ""), DENY), "FAIL")],
)
def test_the_policy_field_is_the_worst_of_all_verdicts(verdicts: tuple[Verdict, ...], word: str | None) -> None:
    assert cycle_record.policy_word(changed(verdicts=verdicts)) == word


def test_the_mode_is_what_runs_and_before_that_what_is_wanted() -> None:
    canary = rollout(state(stable=release(mode=Mode.CANARY)))
    assert cycle_record.finished(changed(rollout=canary))["mode"] == "canary"
    assert (
        cycle_record.finished(changed(rollout=Rollout(), desired=desired(service(mode=Mode.CANARY))))["mode"]
        == "canary"
    )
    assert cycle_record.finished(changed(rollout=Rollout(), desired=None))["mode"] is None


def test_an_image_that_stands_in_for_another_is_named() -> None:
    images = {**IMAGES, "demo:1": ObservedImage("demo:1", "sha256:x", "local/demo:built")}
    record = cycle_record.finished(changed(observed=observed(images=images)))
    assert record["substituted"] == {"demo:1": "local/demo:built"}


def test_an_intent_lists_acts_and_no_waits() -> None:
    record = cycle_record.intent(7, CYCLE.trigger, CYCLE.plan, "now")
    assert (record["kind"], record["number"], record["plan"]) == ("intent", 7, ["pull demo:1: not here"])


QUIETER = [
    {"number": 8, "started": "later", "duration_ms": 99.0},
    {"trigger": Trigger("interval")},
    {"results": (Result(Outcome.PENDING, "11 %"), Result(Outcome.SKIPPED))},
]
NEWS = [
    {"problems": (Problem("manifest.yaml", 1, 1, "no"),)},
    {"errors": ("the engine is down",)},
    {"rollout": rollout(state(candidate=release()))},
    {"rollout": rollout(torn_down=True)},
    {"verdicts": (dataclasses.replace(DENY, allow=True),)},
    {"verdicts": (dataclasses.replace(DENY, known=False),)},
    {"decisions": (Decision("app", Move.HOLD, "another reason"),)},
    {"results": (Result(Outcome.FAILED, "no"), Result(Outcome.SKIPPED))},
    {"plan": Plan((ACT, WAIT), notes=("paused",))},
]


@pytest.mark.parametrize("changes", QUIETER)
def test_numbers_and_moments_are_no_news(changes: dict[str, object]) -> None:
    assert cycle_record.voice(changed(**changes)) == cycle_record.voice(CYCLE)


@pytest.mark.parametrize("changes", NEWS)
def test_whatever_a_person_would_want_to_hear_is_news(changes: dict[str, object]) -> None:
    assert cycle_record.voice(changed(**changes)) != cycle_record.voice(CYCLE)


@pytest.mark.parametrize(
    ("changes", "is_change"),
    [
        ({}, True),
        ({"results": (Result(Outcome.UNKNOWN), Result(Outcome.SKIPPED))}, True),
        ({"results": (Result(Outcome.PENDING), Result(Outcome.SKIPPED))}, False),
        ({"results": (Result(Outcome.SKIPPED), OK)}, False),
        ({"plan": Plan(), "results": (), "decisions": (Decision("app", Move.START),)}, True),
        ({"plan": Plan(), "results": ()}, False),
    ],
)
def test_what_an_auditor_wants_to_see_is_told_from_waiting(changes: dict[str, object], is_change: bool) -> None:
    assert cycle_record.changed_the_world(changed(**changes)) is is_change
