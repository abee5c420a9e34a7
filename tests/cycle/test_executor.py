"""A plan is carried out in its order, side by side where it may, and whatever happens is a result."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import pytest

from reconciler.core.plan import OK, Action, Outcome, Plan, PlannedAction, PullImage, Result
from reconciler.executor import apply_plan, performer

LIMIT_S = 20.0


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as made:
        yield made


def plan(*steps: tuple[str, tuple[int, ...]]) -> Plan:
    return Plan(tuple(PlannedAction(PullImage(name), name, "test", after) for name, after in steps))


def at_once(_step: PlannedAction) -> float:
    return 0.0


def outcomes(results: tuple[Result, ...]) -> list[str]:
    return [result.outcome.value for result in results]


def test_a_step_runs_only_after_all_it_comes_after(pool: ThreadPoolExecutor) -> None:
    done: list[str] = []

    def perform(action: Any) -> Result:
        done.append(action.reference)
        return OK

    diamond = plan(("a", ()), ("b", (0,)), ("c", (0,)), ("d", (1, 2)))
    for _ in range(50):
        done.clear()
        assert outcomes(apply_plan(diamond, perform, pool, at_once)) == ["ok"] * 4
        assert (done[0], done[3]) == ("a", "d")


def test_steps_that_do_not_depend_on_each_other_overlap(pool: ThreadPoolExecutor) -> None:
    all_here = threading.Barrier(3)

    def perform(_action: Action) -> Result:
        all_here.wait(LIMIT_S)
        return OK

    assert outcomes(apply_plan(plan(("a", ()), ("b", ()), ("c", ())), perform, pool, at_once)) == ["ok"] * 3


def test_a_quick_branch_does_not_wait_for_a_slow_one(pool: ThreadPoolExecutor) -> None:
    quick_is_done = threading.Event()

    def perform(action: Any) -> Result:
        if action.reference == "slow":
            return OK if quick_is_done.wait(LIMIT_S) else Result(Outcome.FAILED)
        if action.reference == "second":
            quick_is_done.set()
        return OK

    steps = plan(("slow", ()), ("first", ()), ("second", (1,)))
    assert outcomes(apply_plan(steps, perform, pool, at_once)) == ["ok"] * 3


@pytest.mark.parametrize("how", [Outcome.PENDING, Outcome.FAILED, Outcome.UNKNOWN])
def test_nothing_runs_after_what_is_not_ok(pool: ThreadPoolExecutor, how: Outcome) -> None:
    steps = plan(("a", ()), ("b", (0,)), ("c", (1,)), ("other", ()))
    results = apply_plan(steps, lambda a: Result(how) if a == PullImage("a") else OK, pool, at_once)
    assert outcomes(results) == [how.value, "skipped", "skipped", "ok"]


def test_what_is_left_alone_is_skipped_with_all_that_follows_and_says_until_when(pool: ThreadPoolExecutor) -> None:
    steps = plan(("a", ()), ("b", (0,)), ("other", ()))
    results = apply_plan(steps, lambda _: OK, pool, lambda step: 7.0 if step.target == "a" else 0.0)
    assert outcomes(results) == ["skipped", "skipped", "ok"]
    assert (results[0].look_again_s, results[0].detail) == (7.0, "left alone for 7 s")


def test_a_bug_in_a_port_is_a_result_and_the_rest_goes_on(pool: ThreadPoolExecutor) -> None:
    def perform(action: Action) -> Result:
        if action == PullImage("a"):
            raise KeyError("oops")
        return OK

    results = apply_plan(plan(("a", ()), ("b", (0,)), ("other", ())), perform, pool, at_once)
    assert outcomes(results) == ["unknown", "skipped", "ok"]
    assert results[0].detail == "bug: KeyError: 'oops'"


def test_an_empty_plan_has_no_results(pool: ThreadPoolExecutor) -> None:
    assert apply_plan(Plan(), lambda _: OK, pool, at_once) == ()


class _Everything:
    """Ports that answer with their own name."""

    def __init__(self, name: str = "") -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return _Everything(name)

    def apply(self, _action: Action) -> Result:
        return Result(Outcome.OK, self._name)

    def prepare(self, _revision: str) -> Result:
        return Result(Outcome.OK, "policy")


def test_every_action_has_a_port_or_is_a_wait() -> None:
    perform = performer(_Everything())  # type: ignore[arg-type]
    ports = {}
    for kind in get_args(Action):
        result = perform(_blank(kind))
        ports[kind.__name__] = result.detail if result.outcome is Outcome.OK else result.outcome.value
    assert {name for name, port in ports.items() if port == "pending"} == {"WaitHealthy", "WaitProxy", "WaitPolicy"}
    assert {name for name, port in ports.items() if port == "files"} == {"WriteFile", "RemoveFile"}
    assert {name for name, port in ports.items() if port == "policy"} == {"PreparePolicy"}
    assert {name for name, port in ports.items() if port == "proxy"} == {
        "PrepareProxy",
        "TestProxyConfig",
        "ReloadProxy",
        "SetTraffic",
    }
    assert set(ports.values()) == {"pending", "files", "policy", "proxy", "runtime"}


def _blank(kind: type) -> Any:
    made = kind.__new__(kind)
    for name in kind.__dataclass_fields__:
        object.__setattr__(made, name, "")
    return made
