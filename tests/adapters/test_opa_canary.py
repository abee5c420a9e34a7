"""The canary question, asked of a real OPA: whatever is wrong with it never promotes, and worse is never better."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from reconciler.core.desired import Json, RolloutSpec
from reconciler.core.record import Verdict
from reconciler.formats import manifest, policy
from tests.adapters.test_opa import Engine, binary, desired, engine  # noqa: F401  (binary is a fixture)

SIX = b"services: {image: a, port: 1}\nnginx: {image: b, port: 2}\nnetwork: {name: c, driver_type: bridge}\n"
RANK = {"rollback": 0, "hold": 1, "promote": 2}


@pytest.fixture(scope="module")
def running(binary: str) -> Iterator[Engine]:  # noqa: F811
    read = manifest.read(SIX).desired
    assert read is not None
    with engine(binary, dataclasses.replace(desired(), limits=read.limits)) as started:
        started.wait()
        yield started


def metric(**changes: Json) -> dict[str, Json]:
    return {
        **{"count": 2, "rate": 0.0008, "rate_low": 0.0001, "rate_high": 0.004, "baseline_rate": 0.001},
        **{"excess": -0.0002, "e_above_limit": 0.1, "e_below_limit": 4e5, "e_worse": 0.4},
        **{"baseline_e_above_limit": 0.1, "bad_cycles": 1, "design_effect": 1.0},
        **changes,
    }


def evidence() -> dict[str, Json]:
    return {
        "requests": {"canary": 2400, "baseline": 9000},
        "errors": metric(),
        "latency": metric(threshold_ms=500, bucket_exact=True, p99_low_ms=100.0, p99_high_ms=250.0),
        "e_catastrophic": 0.01,
        "traffic": {"expected_share": 0.5, "observed_share": 0.49, "e_mismatch": 0.2},
        "data_quality": {"ok": True, "why": "", "missed_scrapes": 0, "counter_resets": 0, "canary_restarts": 0},
        "observed_s": 4000.0,
        "evidence_s": 3900.0,
        "chaos": "none",
        "needs": {"requests": 0, "seconds": None},
    }


PROVEN = policy.CanaryQuestion(
    service="app",
    mode="canary",
    window=policy.AskedWindow(412, 0.002, 120.0, 30.0),
    purpose="rollout",
    rollout=RolloutSpec(),
    step=policy.AskedStep(3, 3, 50, True, 61.0, 60.0),
    waited_s=200.0,
    chaos="none",
    evidence=evidence(),
)


def question(at: str) -> dict[str, Json]:
    """A question that promotes: at the last step, at the first, or because it took too long."""
    asked = copy.deepcopy(dict(policy.question_canary(PROVEN)))
    if at == "first":
        put(asked, "step.is_last", False)
    if at == "late":
        put(asked, "rollout.waited_seconds", 600.0)
        put(asked, "evidence.errors.e_below_limit", 1.5)
    return asked


def put(asked: dict[str, Json], path: str, value: object) -> None:
    """Sets the value at `path`; `...` takes the key away."""
    *parents, last = path.split(".")
    here = asked
    for key in parents:
        below = here.get(key)
        if not isinstance(below, dict):
            return
        here = below
    if value is ...:
        here.pop(last, None)
    else:
        here[last] = copy.deepcopy(value)  # type: ignore[assignment]


def at(asked: dict[str, Json], path: str) -> float:
    value: Json = asked
    for key in path.split("."):
        assert isinstance(value, dict)
        value = value[key]
    assert isinstance(value, int | float)
    return float(value)


def ask(running: Engine, asked: dict[str, Json]) -> Verdict:
    verdict = running.port.evaluate("canary", asked, running.revision)
    assert verdict.known, verdict.reason
    return verdict


TESTS = ("e_above_limit", "e_below_limit", "e_worse", "baseline_e_above_limit", "bad_cycles")
MATTERS = [
    *("error_rate", "p99_latency", "requests", "mode", "purpose", "is_held", "chaos", "step", "step.is_last"),
    *("rollout", "rollout.min_requests", "rollout.max_wait_seconds", "rollout.waited_seconds", "rollout.on_timeout"),
    *("evidence", "evidence.requests", "evidence.requests.canary", "evidence.errors", "evidence.latency"),
    *("evidence.e_catastrophic", "evidence.evidence_s", "evidence.data_quality", "evidence.data_quality.ok"),
    *("evidence.data_quality.canary_restarts", "evidence.traffic", "evidence.traffic.e_mismatch"),
    *(f"evidence.{name}.{key}" for name in ("errors", "latency") for key in TESTS),
]
WRONG = st.sampled_from([..., None, "", "0", "NaN", "Infinity", "canary ", [], [0], {}, {"value": 0}, -1, -0.001])


@pytest.mark.parametrize("when", ["last", "first", "late"])
def test_a_good_canary_goes_up(running: Engine, when: str) -> None:
    verdict = ask(running, question(when))
    assert (verdict.allow, verdict.action, verdict.violations) == (True, "promote", ())


def test_time_speaks_of_time(running: Engine) -> None:
    late = question("late")
    put(late, "evidence.requests.canary", 38)
    for key, value in (("count", 0), ("rate_low", 0.0), ("rate_high", 0.092)):
        put(late, f"evidence.errors.{key}", value)
    assert ask(running, late).reason == "promoted on time, not on evidence: 38 requests, 0 errors, 95 %: 0-9.2 %"


def test_the_guides_words_deny_an_operators_promotion(running: Engine) -> None:
    asked = dataclasses.replace(PROVEN, purpose="promote", evidence=None, step=None, chaos="slow")
    windows = {
        "Error rate exceeds 1% threshold": policy.AskedWindow(412, 0.04, 120.0, 30.0),
        "P99 latency exceeds 500ms": policy.AskedWindow(412, 0.0, 620.0, 30.0),
        "Fewer than 20 requests in the window": policy.AskedWindow(19, 0.0, 1.0, 30.0),
    }
    assert ask(running, dict(policy.question_canary(asked))).allow
    for words, window in windows.items():
        verdict = ask(running, dict(policy.question_canary(dataclasses.replace(asked, window=window))))
        assert (verdict.allow, verdict.action, verdict.reason) == (False, "hold", words)


@pytest.mark.fault("H1")
@pytest.mark.parametrize("nothing", [None, math.nan, math.inf])
def test_what_was_not_measured_waits(running: Engine, nothing: float | None) -> None:
    window = policy.AskedWindow(0, nothing, nothing, 30.0, "no requests")
    verdict = ask(running, dict(policy.question_canary(dataclasses.replace(PROVEN, window=window))))
    assert (verdict.action, verdict.violations) == ("hold", ())
    assert verdict.reason.startswith("Not enough evidence: error_rate is unknown: no requests; p99_latency is unknown")


@pytest.mark.fault("G7")
@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["last", "first", "late"]),
    st.dictionaries(st.sampled_from(MATTERS), WRONG, min_size=1, max_size=3),
)
@example("last", {"evidence": ...})
@example("late", {"rollout.max_wait_seconds": -1})
def test_nothing_confusing_is_promoted(running: Engine, when: str, wrong: dict[str, object]) -> None:
    assume({"purpose", "evidence"} - {path for path, value in wrong.items() if value is ...})
    asked = question(when)
    for path, value in wrong.items():
        put(asked, path, value)
    assert not ask(running, asked).allow


BAD = {
    **{"error_rate": 1.0, "p99_latency": 60_000.0, "evidence.e_catastrophic": 1e12},
    **{"evidence.traffic.e_mismatch": 1e12, "evidence.data_quality.canary_restarts": 9},
    **{f"evidence.{name}.e_above_limit": 1e12 for name in ("errors", "latency")},
    **{f"evidence.{name}.e_worse": 1e12 for name in ("errors", "latency")},
    **{f"evidence.{name}.rate": 1.0 for name in ("errors", "latency")},
    **{f"evidence.{name}.excess": 1.0 for name in ("errors", "latency")},
    **{f"evidence.{name}.bad_cycles": 50 for name in ("errors", "latency")},
    **{f"evidence.{name}.e_below_limit": 0.0 for name in ("errors", "latency")},
}
PLACES = st.dictionaries(st.sampled_from(sorted(BAD)), st.sampled_from([0.001, 0.01, 0.1, 0.5, 1.0]), max_size=4)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["last", "first", "late"]),
    st.sampled_from(["promote", "hold", "rollback"]),
    st.booleans(),
    st.sampled_from(["none", "slow"]),
    PLACES,
    st.sampled_from(sorted(BAD)),
    st.sampled_from([0.000_000_01, 0.01, 0.1, 1.0]),
)
def test_more_bad_is_never_better(
    running: Engine,
    when: str,
    on_timeout: str,
    held: bool,
    chaos: str,
    places: dict[str, float],
    path: str,
    part: float,
) -> None:
    """Each number moves a part of its way from where it is to the worst there is."""
    asked = question(when)
    for name, value in (("rollout.on_timeout", on_timeout), ("is_held", held), ("chaos", chaos)):
        put(asked, name, value)
    for name, share in places.items():
        put(asked, name, moved(asked, name, share))
    before = ask(running, asked)
    put(asked, path, moved(asked, path, part))
    after = ask(running, asked)
    assert RANK[after.action] <= RANK[before.action], (before.reason, after.reason)


def moved(asked: dict[str, Json], path: str, part: float) -> float:
    return at(asked, path) + (BAD[path] - at(asked, path)) * part


def test_every_wrong_path_is_one_of_the_question() -> None:
    """A misspelt path would make its mutation a harmless one."""
    for path in [*MATTERS, *BAD]:
        value: Json = question("last")
        for key in path.split("."):
            assert isinstance(value, dict)
            assert key in value, path
            value = value[key]
