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
from reconciler.core.rollout import Decision, Move, Phase, Rollout
from reconciler.core.words import Deploy, Noted, Pause, Promote, Teardown
from reconciler.formats import cycle_record
from tests.builders import (
    IMAGES,
    canary,
    container,
    desired,
    group,
    observed,
    release,
    rollout,
    service,
    state,
    summary,
)

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

V2 = service(image="demo:2")
TRIED = canary(V2)


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


@pytest.mark.parametrize(
    ("of", "mode"),
    [
        (state(), "stable"),
        (state(Phase.STARTING, candidate=TRIED), "canary"),
        (state(Phase.ANALYZING, candidate=TRIED), "canary"),
        (state(Phase.RENEWING, candidate=TRIED, fresh=group(V2)), "canary"),
        (state(Phase.WATCHING, stable=group(V2), kept=group()), "stable"),
        (state(Phase.STARTING, stable=None, candidate=group()), "stable"),
        (state(Phase.UPDATING, candidate=group(V2)), "stable"),
    ],
)
def test_the_mode_is_canary_while_one_runs_beside_stable(of: object, mode: str) -> None:
    assert cycle_record.finished(changed(rollout=rollout(of)))["mode"] == mode  # type: ignore[arg-type]


def test_before_anything_runs_the_mode_is_what_is_wanted() -> None:
    wanted = desired(service(mode=Mode.CANARY))
    assert cycle_record.finished(changed(rollout=Rollout(), desired=wanted))["mode"] == "canary"
    assert cycle_record.finished(changed(rollout=Rollout(), desired=None))["mode"] is None


def test_the_guides_numbers_are_those_of_the_window_and_null_without_one() -> None:
    record = cycle_record.finished(changed(measured={"app": summary()}))
    assert record["req_per_sec"] == pytest.approx(5.0, rel=0.2)
    assert record["error_rate"] == pytest.approx(0.01, abs=0.01)
    assert isinstance(record["p99_latency"], float)
    assert 0 < record["p99_latency"] <= 500
    silent = cycle_record.finished(CYCLE)
    assert (silent["req_per_sec"], silent["p99_latency"], silent["error_rate"]) == (None, None, None)


def test_a_rollout_is_recorded_with_what_it_tries_and_the_evidence() -> None:
    of = state(Phase.ANALYZING, candidate=TRIED, step=1, quarantined=("q",))
    made_of = {release().revision: ("demo:1", "1.0.0"), TRIED.revision: ("demo:2", "1.1.0")}
    cycle = changed(rollout=rollout(of), measured={"app": summary()}, made_of=made_of)
    record = json.loads(json.dumps(cycle_record.finished(cycle), allow_nan=False))["rollouts"]["app"]
    assert record["evidence"]["errors"]["count"] == 3
    del record["evidence"]
    assert record == {
        "phase": "analyzing",
        "step": 2,
        "steps": 3,
        "weight": 25,
        "stable": {"revision": release().revision, "version": "1.0.0", "image": "demo:1"},
        "canary": {"revision": TRIED.revision, "version": "1.1.0", "image": "demo:2"},
        "chaos": "none",
        "quarantined": ["q"],
    }


def test_chaos_is_recorded_as_the_canary_says_it() -> None:
    of = rollout(state(Phase.ANALYZING, candidate=TRIED))
    record = cycle_record.finished(changed(rollout=of, measured={"app": summary(chaos="slow")}))
    assert record["rollouts"]["app"]["chaos"] == "slow"  # type: ignore[index, call-overload]


def test_at_rest_there_is_no_canary_and_no_evidence() -> None:
    record = cycle_record.finished(changed(measured={"app": summary("stable/x")}))["rollouts"]["app"]  # type: ignore[index, call-overload]
    assert (record["canary"], record["evidence"], record["weight"]) == (None, None, 0)


def test_every_word_is_recorded_in_the_same_fields() -> None:
    words = (
        Promote("app", "ann", "looks well"),
        Pause("app", "ann", until=99.0),
        Deploy(),
        Teardown(volumes=True),
        Noted("chaos", "app", "ann", detail="slow 3 s"),
        Noted("promote", "app", "bob", outcome="denied: P99 latency exceeds 500ms"),
    )
    recorded = cycle_record.finished(changed(words=words))["words"]
    keys = ("word", "service", "actor", "reason", "detail", "outcome")
    assert [tuple(word[key] for key in keys) for word in recorded] == [  # type: ignore[union-attr, index, call-overload]
        ("promote", "app", "ann", "looks well", "", "done"),
        ("pause", "app", "ann", "", "", "done"),
        ("deploy", "", "", "", "", "done"),
        ("teardown", "", "", "", "", "done"),
        ("chaos", "app", "ann", "", "slow 3 s", "done"),
        ("promote", "app", "bob", "", "", "denied: P99 latency exceeds 500ms"),
    ]


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
    {"rollout": rollout(state(step_s=5.0, waited_s=9.0, seen=1.0))},
    {"measured": {"app": summary()}},
]
NEWS = [
    {"problems": (Problem("manifest.yaml", 1, 1, "no"),)},
    {"errors": ("the engine is down",)},
    {"rollout": rollout(state(Phase.STARTING, candidate=TRIED))},
    {"rollout": rollout(state(step=1))},
    {"rollout": rollout(torn_down=True)},
    {"verdicts": (dataclasses.replace(DENY, allow=True, action="promote"),)},
    {"verdicts": (dataclasses.replace(DENY, known=False),)},
    {"decisions": (Decision("app", Move.HOLD, "another reason"),)},
    {"results": (Result(Outcome.FAILED, "no"), Result(Outcome.SKIPPED))},
    {"plan": Plan((ACT, WAIT), notes=("paused",))},
]


def test_seconds_that_pass_and_requests_that_come_are_no_news() -> None:
    said = [
        changed(decisions=(Decision("app", Move.HOLD, f"step 1 of 3, 5 %: {n} requests, {60 - n} s to go"),))
        for n in (3, 17)
    ]
    assert cycle_record.voice(said[0]) == cycle_record.voice(said[1])


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
        ({"plan": Plan(), "results": (), "words": (Noted("chaos", "app"),)}, True),
    ],
)
def test_what_an_auditor_wants_to_see_is_told_from_waiting(changes: dict[str, object], is_change: bool) -> None:
    assert cycle_record.changed_the_world(changed(**changes)) is is_change
