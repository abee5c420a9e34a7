"""The last cycle as people are shown it: the same keys always, the truth of the moment, and what happens next."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from reconciler.core.desired import Mode, Service
from reconciler.core.evidence import begin, limits_of, summarise
from reconciler.core.observed import Health, ObservedProxy, PolicyHealth, Status
from reconciler.core.plan import Plan, PlannedAction, WaitProxy
from reconciler.core.record import Cycle, Trigger, Verdict, Violation
from reconciler.core.rollout import Decision, Move, Paused, Phase, Release, Rollout, ServiceRollout
from reconciler.operations.rollout_view import canary_verdict, traffic_value
from reconciler.operations.status import state_word, status_value
from reconciler.operations.what_next import UNWATCHED, Said, what_next
from tests.builders import (
    POLICY_REVISION,
    STEPS,
    canary,
    container,
    desired,
    group,
    nginx,
    observed,
    opa,
    release,
    rollout,
    service,
    state,
    summary,
)

V1, V2 = service(), service(image="demo:2", version="1.1.0")
TRIED, FRESH = canary(V2), group(V2)
LIMITS = {"canary": {"max_error_rate": 0.01, "max_p99_latency_ms": 500, "window_seconds": 30}}
MADE_OF = {release().revision: ("demo:1", "1.0.0"), TRIED.revision: ("demo:2", "1.1.0")}
PASS = Verdict("canary", True, "within all limits", action="promote", revision="r", decision_id="d")
FEW = Verdict("canary", False, "12 of 20 requests", action="hold")
BROKEN = Verdict(
    "canary",
    False,
    "P99 latency exceeds 500ms",
    violations=(Violation("p99", "P99 latency exceeds 500ms", "812", "500"),),
)
TOO_MANY = Violation("errors", "Error rate exceeds 1% threshold", "0.04", "0.01")
ROLLBACK = Verdict("canary", False, "Error rate exceeds 1% threshold", action="rollback", violations=(TOO_MANY,))
UNKNOWN = Verdict("canary", False, "OPA is not reachable", known=False)
ANALYZING = state(Phase.ANALYZING, candidate=TRIED, step=1, step_s=12.34, quarantined=("q",))


def cycle(of: ServiceRollout, wanted: Service = V2, weight: int = 0, **changes: Any) -> Cycle:
    seen = observed(
        container(),
        container(TRIED),
        container(FRESH, health=Health.SICK, health_detail="503"),
        nginx(),
        opa(),
        proxy=ObservedProxy("live", weights={"app": weight}),
    )
    made = Cycle(
        7,
        Trigger("interval"),
        "t",
        "2026-01-01T00:00:01.000Z",
        1.0,
        desired(wanted, limits=LIMITS),
        seen,
        rollout(of, admitted="m" * 64),
        wanted={"app": Release(release(wanted).revision, wanted.mode)},
        made_of=MADE_OF,
    )
    return dataclasses.replace(made, **changes)


DAEMON = {"pid": 7, "version": "1", "since": "2026-01-01T00:00:00+00:00"}


def app(of: ServiceRollout, *args: Any, **changes: Any) -> dict[str, Any]:
    value = json.loads(json.dumps(status_value(cycle(of, *args, **changes), "manifest.yaml", DAEMON), allow_nan=False))
    return value["services"][0]


# ---------------------------------------------------------------- the whole


@pytest.mark.parametrize(
    "made",
    [
        None,
        cycle(state(), V1),
        cycle(ANALYZING, weight=25, judged={"app": PASS}),
        cycle(ServiceRollout("app"), observed=None),
        Cycle(1, Trigger("start"), "t", "t", 0.0, None, None, Rollout(), errors=("no engine",)),
    ],
)
def test_the_same_keys_are_always_there_and_all_of_it_is_json(made: Cycle | None) -> None:
    value = status_value(made, "manifest.yaml", None)
    assert value.keys() == status_value(cycle(state(), V1), "manifest.yaml", None).keys()
    json.dumps(value, allow_nan=False)


@pytest.mark.parametrize(
    ("made", "word"),
    [
        (None, "empty"),
        (cycle(ServiceRollout("app"), rollout=Rollout()), "empty"),
        (cycle(state(), V1), "converged"),
        (cycle(state(), V1, plan=Plan((PlannedAction(WaitProxy("h", True), "nginx", "x"),))), "converging"),
        (cycle(ANALYZING), "converging"),
        (cycle(state(Phase.WATCHING, stable=FRESH, kept=group())), "converging"),
        (cycle(state(), V2), "degraded"),
        (cycle(state(dismissed=Release(release().revision, Mode.CANARY)), dataclasses.replace(V1, mode=Mode.CANARY)),
         "converged"),
        (cycle(state(), dataclasses.replace(V1, mode=Mode.CANARY)), "degraded"),
        (cycle(state(), V1, errors=("no engine",)), "degraded"),
        (cycle(state(), V1, plan=Plan(notes=("paused",))), "degraded"),
        (cycle(state(), V1, decisions=(Decision("app", Move.HOLD, "DENIED: Disk space below 10GB"),)), "degraded"),
        (cycle(state(), V1, rollout=rollout(torn_down=True)), "torn_down"),
    ],
)  # fmt: skip
def test_one_word_says_how_things_are(made: Cycle | None, word: str) -> None:
    assert state_word(made) == word


@pytest.mark.parametrize(
    ("of", "mode", "revision", "ready"),
    [
        (state(), "stable", release().revision, 1),
        (ANALYZING, "canary", release().revision, 1),
        (state(Phase.RENEWING, candidate=TRIED, fresh=FRESH), "canary", TRIED.revision, 1),
        (state(Phase.WATCHING, stable=FRESH, kept=group()), "stable", TRIED.revision, 0),
        (state(Phase.STARTING, stable=None, candidate=FRESH), "stable", TRIED.revision, 0),
    ],
)
def test_a_service_is_shown_as_what_carries_its_requests(
    of: ServiceRollout, mode: str, revision: str, ready: int
) -> None:
    value = app(of)
    assert (value["mode"], value["revision"], value["ready"]) == (mode, revision, ready)
    assert (value["image"], value["version"]) == MADE_OF[revision]


def test_before_anything_runs_the_mode_is_what_is_wanted() -> None:
    value = app(ServiceRollout("app"), dataclasses.replace(V1, mode=Mode.CANARY))
    assert (value["mode"], value["rollout"], value["image"]) == ("canary", None, "demo:1")


# ---------------------------------------------------------------- a rollout


@pytest.mark.parametrize("of", [state(), ServiceRollout("app")])
def test_at_rest_there_is_no_rollout(of: ServiceRollout) -> None:
    assert app(of, V1)["rollout"] is None


def test_a_rollout_tells_where_it_is_and_what_it_tries() -> None:
    value = app(ANALYZING, weight=25, judged={"app": PASS})["rollout"]
    told = {"phase": "analyzing", "step": 2, "steps": 3, "weight": 25, "since": 1000.0, "step_seconds": 12.3}
    assert {key: value[key] for key in told} == told
    assert (value["step_duration"], value["held"], value["paused"], value["quarantined"]) == (60.0, False, None, ["q"])
    assert value["stable"] == {
        "revision": release().revision, "version": "1.0.0", "image": "demo:1", "ready": 1, "wanted": 1
    }  # fmt: skip
    assert (value["canary"]["version"], value["canary"]["ready"]) == ("1.1.0", 1)
    assert value["limits"].items() >= {"max_error_rate": 0.01, "max_p99_latency_ms": 500}.items()


def test_the_weight_that_is_shown_is_the_one_that_is_so() -> None:
    assert app(ANALYZING, weight=5)["rollout"]["weight"] == 5
    blind = dataclasses.replace(cycle(ANALYZING).observed, proxy=ObservedProxy())  # type: ignore[type-var]
    assert app(ANALYZING, observed=blind)["rollout"]["weight"] == 25


def test_without_a_measurement_nothing_is_zero_but_unknown() -> None:
    value = app(ANALYZING)["rollout"]
    assert (value["evidence"], value["chaos"]) == (None, None)
    assert value["window"] == {
        "requests": None, "req_per_sec": None, "error_rate": None, "p99_ms": None, "seconds": 30,
        "why_unknown": "nothing was measured yet",
    }  # fmt: skip


def test_a_measurement_without_requests_says_why_there_are_no_numbers() -> None:
    nobody = summarise(begin("canary/x", 1000.0), limits_of({}), 1010.0)
    made = cycle(ANALYZING, measured={"app": nobody})
    value = traffic_value(made)
    assert (value["req_per_sec"], value["error_rate"], value["p99_latency_ms"]) == (None, None, None)
    assert value["why_unknown"]
    assert app(ANALYZING, measured={"app": nobody})["rollout"]["evidence"]["requests"] == {
        "canary": 0, "baseline": 0
    }  # fmt: skip
    assert traffic_value(None)["why_unknown"] == "nothing was measured yet"


def test_a_measurement_is_shown_as_its_window_and_its_whole_run() -> None:
    made = cycle(ANALYZING, measured={"app": summary()})
    value, shown = traffic_value(made), app(ANALYZING, measured={"app": summary()})["rollout"]
    assert value["req_per_sec"] == pytest.approx(5.0, rel=0.2)
    assert shown["window"]["req_per_sec"] == value["req_per_sec"]
    assert shown["evidence"]["requests"]["canary"] > shown["window"]["requests"] > 0
    assert shown["chaos"] == "none"


@pytest.mark.parametrize(
    ("verdict", "status", "violations"),
    [(PASS, "PASS", 0), (FEW, "PASS", 0), (BROKEN, "FAIL", 1), (ROLLBACK, "FAIL", 1), (UNKNOWN, "UNKNOWN", 0)],
)
def test_waiting_for_evidence_breaks_no_limit_and_silence_is_no_pass(
    verdict: Verdict, status: str, violations: int
) -> None:
    seen = {"judged": {"app": verdict}, "measured": {"app": summary()}}
    value = canary_verdict(cycle(ANALYZING, **seen))
    assert isinstance(value, dict)
    assert (value["status"], value["reason"], len(value["violations"])) == (status, verdict.reason, violations)  # type: ignore[arg-type]
    policy = app(ANALYZING, **seen)["rollout"]["policy"]
    assert (policy["status"], policy["action"]) == (status, verdict.action)
    blind = canary_verdict(cycle(ANALYZING, judged={"app": verdict}))
    assert isinstance(blind, dict)
    assert blind["status"] != "PASS", "nothing measured is nothing kept"


def test_without_a_canary_there_is_nothing_to_judge() -> None:
    for made in (None, cycle(state(), V1)):
        value = canary_verdict(made)
        assert isinstance(value, dict)
        assert value["status"] == "UNKNOWN"
        assert value["reason"]
    assert app(ANALYZING)["rollout"]["policy"]["status"] == "UNKNOWN"


def test_a_pause_is_shown_with_who_and_why() -> None:
    paused = dataclasses.replace(ANALYZING, paused=Paused("ann", "lunch", 9.0))
    value = app(paused)["rollout"]
    assert value["paused"] == {"actor": "ann", "reason": "lunch", "until": 9.0}
    assert "`resume`" in value["next"]


HELD = dataclasses.replace(V2, mode=Mode.CANARY)


@pytest.mark.parametrize(
    ("of", "wanted", "verdict", "words"),
    [
        (ANALYZING, V2, PASS, "50 % of the requests in 48 s, if policy still agrees"),
        (dataclasses.replace(ANALYZING, step_s=60.0), V2, PASS, "50 % of the requests now"),
        (ANALYZING, V2, FEW, "50 % of the requests once policy allows it"),
        (ANALYZING, V2, BROKEN, "until the limits are kept"),
        (ANALYZING, V2, UNKNOWN, "50 % of the requests"),
        (dataclasses.replace(ANALYZING, step=2), V2, PASS, "becomes stable in 48 s, if policy still agrees"),
        (dataclasses.replace(ANALYZING, step=2), V2, FEW, "promotes itself once policy allows it"),
        (dataclasses.replace(ANALYZING, step=2), HELD, PASS, "until `promote`"),
        (state(Phase.SUSPENDED, candidate=TRIED), V2, None, "when answers are back"),
        (state(Phase.SUSPENDED, candidate=TRIED, is_suspended_by_verdict=True), HELD, None, "until `resume`"),
        (state(Phase.HALTED, candidate=TRIED, fresh=FRESH), V2, None, "`retry`"),
    ],
)
def test_what_happens_next_is_said(of: ServiceRollout, wanted: Service, verdict: Verdict | None, words: str) -> None:
    assert words in what_next(of, wanted, Said(verdict))


@pytest.mark.parametrize("chaos", ["slow", "error"])
def test_under_chaos_what_ends_it_is_said(chaos: str) -> None:
    ends = "`swiftdeploy chaos recover` ends the chaos"
    assert what_next(ANALYZING, HELD, Said(BROKEN, chaos=chaos)) == f"stays here; {ends}"
    assert what_next(ANALYZING, V2, Said(BROKEN, chaos=chaos)) == f"no step up, and back once it is proven bad; {ends}"
    seen = dataclasses.replace(summary(), chaos=chaos)
    assert app(ANALYZING, HELD, measured={"app": seen})["rollout"]["next"] == f"stays here; {ends}"


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        (Decision("app", Move.HOLD, is_sick=True), "goes on once all is healthy again"),
        (Decision("app", Move.HOLD, is_unknown=True), "no requests any more in 242 s"),
    ],
)
def test_what_has_to_be_mended_first_is_next(decision: Decision, words: str) -> None:
    blind = dataclasses.replace(ANALYZING, unknown_since=ANALYZING.seen - 58.0)
    shown = app(blind, judged={"app": PASS}, decisions=(decision,))["rollout"]
    assert words in shown["next"]
    assert shown["blocked"] is True


def test_without_a_daemon_nothing_is_promised() -> None:
    value = status_value(cycle(ANALYZING, judged={"app": PASS}), "manifest.yaml", None)
    (service,) = json.loads(json.dumps(value))["services"]
    assert (service["rollout"]["next"], service["rollout"]["blocked"]) == (UNWATCHED, True)


def test_a_watch_says_how_long_it_is_and_what_is_kept_for_it() -> None:
    value = app(state(Phase.WATCHING, stable=FRESH, kept=group()))
    assert value["rollout"]["watch_seconds"] == V2.rollout.watch_s
    assert not any(each["kept"] for each in value["containers"]), "it runs"
    stopped = observed(container(status=Status.EXITED), container(FRESH), nginx(), opa())
    value = app(state(Phase.WATCHING, stable=FRESH, kept=group()), observed=stopped)
    assert [(each["kept"], each["detail"]) for each in value["containers"]] == [
        (True, "stopped, kept for a roll back"),
        (False, ""),
    ]


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase not in (Phase.ABSENT, Phase.STABLE)])
def test_every_phase_but_rest_has_something_to_come(phase: Phase) -> None:
    assert what_next(state(phase, candidate=TRIED), V2, Said())
    value = app(state(phase, candidate=TRIED))["rollout"]
    assert value["phase"] == phase
    assert value["steps"] == len(STEPS)


def test_the_reason_is_this_cycles_if_there_is_one() -> None:
    of = dataclasses.replace(ANALYZING, reason="revision x → y")
    assert app(of)["reason"] == "revision x → y"
    said = app(of, decisions=(Decision("app", Move.HOLD, "too few requests"),))
    assert (said["reason"], said["rollout"]["reason"]) == ("too few requests", "too few requests")


# ---------------------------------------------------------------- the rest of it


def test_policy_is_pass_fail_or_unknown_and_says_why() -> None:
    deny = Verdict("infrastructure", False, "Disk space below 10GB")
    value = status_value(cycle(state(), V1, verdicts=(deny,)), "m", None)["policy"]
    assert value["infrastructure"] == {"status": "FAIL", "reason": "Disk space below 10GB"}  # type: ignore[index, call-overload]
    value = status_value(cycle(state(), V1), "m", None)["policy"]
    assert value["infrastructure"]["status"] == "UNKNOWN"  # type: ignore[index, call-overload]


def test_the_policy_engine_and_nginx_are_shown_as_they_are() -> None:
    value = status_value(cycle(state(), V1), "m", None)
    assert value["opa"] == {"ready": True, "detail": "", "revision": POLICY_REVISION}
    assert value["nginx"] == {"status": Status.RUNNING, "port": 8080, "live_hash": "live"}
    deaf = observed(policies={POLICY_REVISION: PolicyHealth(False, "nobody listens")})
    value = status_value(cycle(state(), V1, observed=deaf), "m", None)
    assert value["opa"]["detail"] == "nobody listens"  # type: ignore[index, call-overload]
    assert value["nginx"]["status"] == "absent"  # type: ignore[index, call-overload]


def test_a_revision_that_nothing_is_known_of_is_not_taken_for_the_one_that_is_wanted() -> None:
    lost = app(state(), V2, made_of={TRIED.revision: ("demo:2", "1.1.0")})
    assert (lost["image"], lost["version"]) == ("?", "?")
    assert app(state(), V2)["image"] == "demo:1"
