"""What operators say about a rollout, and what they are answered, over a whole host in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.core.errors import ManifestError, Refused
from reconciler.core.rollout import Phase
from reconciler.operations import Exit
from tests.operations.desk_world import Desk, lines


@pytest.fixture
def held(deployed: Desk) -> Desk:
    """A canary of the stable revision, at its first step, with requests to judge it by."""
    deployed.world.traffic.rate = 20.0
    assert deployed.ask("promote", mode="canary")[0] is Exit.OK
    deployed.goes_on(40)
    return deployed


def modes(desk: Desk) -> list[str]:
    return sorted(dict(box.request.spec.environment)["MODE"] for box in desk.world.boxes())


def recorded(desk: Desk, word: str) -> list[Any]:
    return [said for record in desk.world.records for said in record.get("words", []) if said["word"] == word]


# ---------------------------------------------------------------- promote canary


def test_promote_canary_writes_the_mode_and_waits_until_one_serves(deployed: Desk) -> None:
    code, events = deployed.ask("promote", mode="canary")
    assert code is Exit.OK
    text = deployed.path.read_text()
    assert "mode: canary" in text
    assert "# the one" in text, "a person's comments stay"
    assert "at 5 % of the requests" in events[-1]["text"]
    assert "X-Mode: canary" in events[-1]["text"]
    assert modes(deployed) == ["canary", "stable"]
    assert deployed.world.nginx.weights["app"] == 5


def test_promote_canary_of_one_that_is_there_says_so_and_touches_nothing(held: Desk) -> None:
    before = held.path.read_bytes(), set(held.world.engine.boxes)
    code, events = held.ask("promote", mode="canary")
    assert code is Exit.OK
    assert "has a canary already, at" in events[-1]["text"]
    assert (held.path.read_bytes(), set(held.world.engine.boxes)) == before


def test_a_service_whose_health_check_says_nothing_of_a_mode_is_told_as_such(deployed: Desk) -> None:
    deployed.answer = (200, {}, b"ok")
    _, events = deployed.ask("promote", mode="canary")
    assert "its health check does not name a mode" in events[-1]["text"]
    deployed.answer = None
    assert deployed.ask("promote", mode="canary")[0] is Exit.OK


# ---------------------------------------------------------------- promote stable


def test_promote_stable_of_a_newer_canary_makes_it_stable(tried: Desk) -> None:
    tried.world.says("canary", allow=True)
    code, events = tried.ask("promote", mode="stable")
    assert (code, events[-1]["exit"]) == (Exit.OK, 0)
    assert "app is stable now" in events[-1]["text"]
    assert "mode: stable" in tried.path.read_text()
    assert tried.app.phase is Phase.WATCHING
    running = [b.request.spec.image for b in tried.world.boxes() if tried.world.is_well(b)]
    assert running == ["demo:2"]
    assert [said["outcome"] for said in recorded(tried, "promote")] == ["done"]


def test_promote_stable_of_a_canary_of_the_stable_revision_only_removes_it(held: Desk) -> None:
    (stable,) = [box.id for box in held.world.boxes() if dict(box.request.spec.environment)["MODE"] == "stable"]
    held.world.says("canary", allow=True)
    assert held.ask("promote", mode="stable")[0] is Exit.OK
    assert [box.id for box in held.world.boxes()] == [stable]
    assert held.app.quarantined == ()


def test_a_canary_that_came_while_policy_was_asked_is_not_promoted_for_the_other(tried: Desk) -> None:
    tried.world.says("canary", allow=True)

    class Asked(list[str]):
        def append(self, domain: str) -> None:
            super().append(domain)
            if domain == "canary" and "demo:3" not in tried.path.read_text():
                tried.wants("demo:3", "canary")

    tried.world.asked = Asked()
    with pytest.raises(Refused, match=r"asks for another app than revision .* by now, so its mode was left as it is"):
        tried.ask("promote", mode="stable")
    assert tried.app.phase in (Phase.STARTING, Phase.ANALYZING)
    assert tried.app.asked is None, "it has to prove itself"


def test_a_manifest_that_cannot_be_written_is_said_with_what_to_do(
    deployed: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(Refused, match=r"cannot be written: Operation not permitted\. Make it and its folder writable"):
        deployed.ask("promote", mode="canary")
    assert modes(deployed) == ["stable"]


@pytest.mark.fault("J7")
@pytest.mark.parametrize(("known", "code"), [(True, Exit.DENIED), (False, Exit.POLICY_FAILED)])
def test_a_denied_promotion_changes_nothing_and_is_recorded(tried: Desk, known: bool, code: Exit) -> None:
    before = tried.path.read_bytes()
    tried.world.says("canary", allow=False, reason="P99 latency exceeds 500ms", known=known)
    found, events = tried.ask("promote", mode="stable")
    assert found is code
    assert "P99 latency exceeds 500ms" in events[-1]["text"]
    if known:
        assert events[-1]["text"].startswith("DENIED: ")
    assert tried.path.read_bytes() == before
    assert tried.app.phase in (Phase.ANALYZING, Phase.SUSPENDED)
    (said,) = recorded(tried, "promote")
    assert said["actor"] == "ann"
    assert "P99 latency exceeds 500ms" in said["outcome"]


@pytest.mark.fault("J7")
def test_force_needs_a_reason_and_is_told_and_recorded_with_it(tried: Desk) -> None:
    tried.world.says("canary", allow=False, reason="P99 latency exceeds 500ms")
    for without in ({}, {"reason": " "}):
        assert tried.ask("promote", mode="stable", force=True, **without)[0] is Exit.DENIED
    code, events = tried.ask("promote", mode="stable", force=True, reason="known and accepted")
    assert code is Exit.OK
    assert "forced, though policy says: P99 latency exceeds 500ms" in lines(events)
    assert recorded(tried, "promote")[-1]["reason"] == "forced: known and accepted"


def test_a_promotion_of_what_was_never_measured_is_not_a_yes(deployed: Desk) -> None:
    deployed.world.traffic.is_silent = True
    deployed.world.opa_answers = False
    deployed.world.says("canary", allow=False, known=False, reason="no requests")
    deployed.world.opa_answers = True
    deployed.wants("demo:2", "canary")
    deployed.reaches(Phase.ANALYZING)
    before = deployed.path.read_bytes()
    assert deployed.ask("promote", mode="stable")[0] is Exit.POLICY_FAILED
    assert deployed.path.read_bytes() == before


def test_promoting_to_what_it_is_does_nothing(deployed: Desk) -> None:
    before = deployed.path.read_bytes()
    code, events = deployed.ask("promote", mode="stable")
    assert (code, "nothing to do" in events[-1]["text"], deployed.path.read_bytes()) == (Exit.OK, True, before)


def test_a_service_nobody_knows_or_a_bad_manifest_is_refused_by_every_word(deployed: Desk) -> None:
    for verb in ("promote", "rollback", "pause", "resume", "chaos"):
        with pytest.raises(Refused, match="there is no service 'db'"):
            deployed.ask(verb, service="db", mode="canary")
    deployed.write("services: [")
    with pytest.raises(ManifestError):
        deployed.ask("rollback")


# ---------------------------------------------------------------- rollback


def test_rollback_takes_a_newer_canary_back_and_quarantines_it(tried: Desk) -> None:
    bad = tried.app.candidate.revision  # type: ignore[union-attr]
    code, events = tried.ask("rollback", reason="looks odd")
    assert code is Exit.OK
    assert "Rolled back: app runs" in events[-1]["text"]
    assert (tried.images(), modes(tried), tried.app.quarantined) == (["demo:1"], ["stable"], (bad,))
    assert "mode: stable" in tried.path.read_text()
    assert recorded(tried, "rollback")[0]["reason"] == "looks odd"


def test_rollback_is_not_held_up_by_policy_or_a_sick_canary(tried: Desk) -> None:
    tried.world.opa_answers = False
    tried.world.sick = {"demo:2"}
    assert tried.ask("rollback")[0] is Exit.OK
    assert tried.images() == ["demo:1"]


def test_rollback_of_a_canary_of_the_stable_revision_dismisses_it_without_quarantine(held: Desk) -> None:
    assert held.ask("rollback")[0] is Exit.OK
    assert (modes(held), held.app.quarantined) == (["stable"], ())


def test_rollback_brings_the_kept_containers_back_after_a_promotion(tried: Desk) -> None:
    tried.world.says("canary", allow=True)
    tried.ask("promote", mode="stable")
    code, _ = tried.ask("rollback", reason="customers call")
    assert code is Exit.OK
    assert tried.images() == ["demo:1"]
    assert tried.app.phase is Phase.STABLE


def test_there_is_nothing_to_roll_back_at_rest(deployed: Desk) -> None:
    with pytest.raises(Refused, match="nothing to roll back"):
        deployed.ask("rollback")


# ---------------------------------------------------------------- pause, resume, retry


@pytest.mark.fault("J9")
def test_a_paused_rollout_stays_where_it_is_until_resume(tried: Desk) -> None:
    weight = tried.world.nginx.weights["app"]
    code, events = tried.ask("pause", reason="lunch")
    assert (code, "app is paused: analyzing" in events[-1]["text"]) == (Exit.OK, True)
    tried.goes_on(300)
    assert tried.world.nginx.weights["app"] == weight
    assert tried.status()["services"][0]["rollout"]["paused"] == {"actor": "ann", "reason": "lunch", "until": None}
    assert tried.ask("resume")[0] is Exit.OK
    tried.goes_on(120)
    assert tried.world.nginx.weights["app"] > weight


def test_a_pause_may_have_an_end(tried: Desk) -> None:
    _, events = tried.ask("pause", for_s=100)
    assert "is paused for 100 s" in events[-1]["text"]
    until = tried.status()["services"][0]["rollout"]["paused"]["until"]
    assert until == pytest.approx(tried.world.clock.now() + 100, abs=10)
    tried.goes_on(110)
    assert tried.status()["services"][0]["rollout"]["paused"] is None


@pytest.mark.fault("J6")
def test_words_that_make_no_sense_now_are_refused_with_the_reason(deployed: Desk) -> None:
    with pytest.raises(Refused, match="no rollout that could be paused: it is at rest"):
        deployed.ask("pause")
    with pytest.raises(Refused, match="neither paused nor suspended"):
        deployed.ask("resume")
    with pytest.raises(Refused, match="nothing to try again"):
        deployed.ask("retry", reason="why not")


def test_retry_needs_a_reason_and_lets_a_quarantined_revision_run_again(tried: Desk) -> None:
    tried.ask("rollback")
    tried.wants("demo:2", "canary")
    tried.goes_on(30)
    assert tried.images() == ["demo:1"], "a rolled back revision is not tried again by itself"
    for without in ({}, {"reason": "  "}):
        with pytest.raises(Refused, match="needs a --reason"):
            tried.ask("retry", **without)
    assert tried.ask("retry", reason="it was the network")[0] is Exit.OK
    tried.reaches(Phase.ANALYZING)
    assert tried.app.quarantined == ()


def test_a_held_canary_that_policy_condemns_waits_for_resume(tried: Desk) -> None:
    tried.world.says("canary", allow=False, action="rollback", reason="Error rate exceeds 1% threshold")
    tried.reaches(Phase.SUSPENDED)
    tried.goes_on(5)
    assert tried.world.nginx.weights["app"] == 0
    assert sorted(tried.images()) == ["demo:1", "demo:2"]
    value = tried.status()["services"][0]["rollout"]
    assert (value["phase"], value["next"]) == ("suspended", "stays at 0 % until `resume` or `rollback`")
    tried.world.says("canary", allow=True)
    assert tried.ask("resume", reason="fixed the load test")[0] is Exit.OK
    tried.goes_on(10)
    assert tried.world.nginx.weights["app"] == 5


# ---------------------------------------------------------------- chaos


def test_chaos_is_refused_for_stable(deployed: Desk) -> None:
    with pytest.raises(Refused, match="chaos is refused for stable"):
        deployed.ask("chaos", what="slow", duration=3)
    assert deployed.sent == []


@pytest.mark.parametrize(
    ("args", "body"),
    [
        ({"what": "slow", "duration": 3}, {"mode": "slow", "duration": 3}),
        ({"what": "error", "rate": 0.5}, {"mode": "error", "rate": 0.5}),
        ({"what": "recover"}, {"mode": "recover"}),
    ],
)
def test_chaos_goes_to_the_canary_itself_and_is_recorded(held: Desk, args: dict, body: dict) -> None:
    held.sent.clear()
    assert held.ask("chaos", **args)[0] is Exit.OK
    ((address, port, method, path, sent),) = held.sent
    (canary,) = [box for box in held.world.boxes() if dict(box.request.spec.environment)["MODE"] == "canary"]
    assert (address in canary.endpoints.values(), port, method, path) == (True, 3000, "POST", "/chaos")
    assert json.loads(sent) == body
    (said,) = recorded(held, "chaos")
    assert (said["actor"], said["outcome"]) == ("ann", "done")
    assert said["detail"]


@pytest.mark.parametrize("args", [{}, {"what": "slow"}, {"what": "dance"}, {"what": "error", "rate": "much"}])
def test_chaos_that_nobody_understands_is_refused(held: Desk, args: dict) -> None:
    with pytest.raises(Refused, match="what chaos"):
        held.ask("chaos", **args)


@pytest.mark.parametrize(
    ("answer", "words"), [(None, "no answer"), ((403, {}, b"no chaos here"), "HTTP 403: no chaos")]
)
def test_a_canary_that_takes_no_chaos_is_an_error_and_no_record(held: Desk, answer: Any, words: str) -> None:
    held.answer = answer
    code, events = held.ask("chaos", what="recover")
    assert code is Exit.ERROR
    assert words in events[-1]["text"]
    assert recorded(held, "chaos") == []


# ---------------------------------------------------------------- why


def test_why_is_the_services_part_of_the_status(held: Desk) -> None:
    (found,) = held.status()["services"]
    why = held.ask("why")[1][-1]["value"]
    assert why.keys() == found.keys() | {"commit", "daemon", "problems"}
    assert why["rollout"]["phase"] == "analyzing"
    with pytest.raises(Refused, match="there is no service 'db'"):
        held.ask("why", service="db")


def test_why_before_anything_runs_says_what_to_do(desk: Desk) -> None:
    desk.write("services: [")
    with pytest.raises(Refused, match="`deploy` starts it"):
        desk.ask("why")
