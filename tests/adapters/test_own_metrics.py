"""Every finished cycle counts, and the gauges show the last one."""

from __future__ import annotations

import dataclasses
import socket
import urllib.request

import pytest

from reconciler.adapters.own_metrics import OwnMetrics
from reconciler.core.errors import Problem
from reconciler.core.plan import OK, Outcome, Plan, PlannedAction, PullImage, Result, WaitProxy
from reconciler.core.record import Cycle, Trigger
from reconciler.core.rollout import Phase
from tests.builders import desired, rollout, state

ACTS = Plan(
    (PlannedAction(PullImage("a"), "a", "missing"), PlannedAction(WaitProxy("h", True), "nginx", "reloading", (0,)))
)
CYCLE = Cycle(1, Trigger("interval"), "", "", 12.0, desired(), None, rollout())


def value(metrics: OwnMetrics, name: str, **labels: str) -> float | None:
    return metrics._registry.get_sample_value(name, labels)


def test_a_quiet_cycle_is_counted_and_converged() -> None:
    metrics = OwnMetrics("1.2.3")
    metrics.finished(CYCLE)
    metrics.finished(CYCLE)
    assert value(metrics, "swiftdeploy_cycles_total", trigger="interval") == 2
    assert value(metrics, "swiftdeploy_cycle_seconds_sum") == pytest.approx(0.024)
    assert value(metrics, "swiftdeploy_converged") == 1
    assert value(metrics, "swiftdeploy_manifest_valid") == 1
    assert value(metrics, "swiftdeploy_build_info", version="1.2.3") == 1


def test_acts_are_counted_by_verb_and_outcome_and_waits_are_not() -> None:
    metrics = OwnMetrics("1")
    metrics.finished(dataclasses.replace(CYCLE, plan=ACTS, results=(OK, Result(Outcome.PENDING))))
    assert value(metrics, "swiftdeploy_actions_total", verb="pull", outcome="ok") == 1
    assert value(metrics, "swiftdeploy_actions_total", verb="wait for", outcome="pending") is None
    assert value(metrics, "swiftdeploy_converged") == 0


def test_trouble_is_seen_and_its_end_too() -> None:
    metrics = OwnMetrics("1")
    metrics.finished(dataclasses.replace(CYCLE, errors=("down",), problems=(Problem("m", 1, 1, "no"),)))
    assert value(metrics, "swiftdeploy_cycle_errors_total") == 1
    assert (value(metrics, "swiftdeploy_manifest_valid"), value(metrics, "swiftdeploy_converged")) == (0, 0)
    metrics.finished(CYCLE)
    assert (value(metrics, "swiftdeploy_manifest_valid"), value(metrics, "swiftdeploy_converged")) == (1, 1)


def test_a_service_is_in_one_phase_at_a_time() -> None:
    metrics = OwnMetrics("1")
    for phase in Phase:
        metrics.finished(dataclasses.replace(CYCLE, rollout=rollout(state(phase))))
        shown = {p.value: value(metrics, "swiftdeploy_service_phase", service="app", phase=p.value) for p in Phase}
        assert shown == {p.value: float(p is phase) for p in Phase}


def test_a_taken_port_is_an_answer_and_a_free_one_serves_on_loopback() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = int(holder.getsockname()[1])
        assert OwnMetrics("1").serve(port) is False
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = int(trial.getsockname()[1])
    assert OwnMetrics("9.9").serve(port)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        assert b'swiftdeploy_build_info{version="9.9"} 1.0' in answer.read()
