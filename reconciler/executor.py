"""Carry a plan out: steps whose `after` are done run side by side; no decision is taken here."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import assert_never

from reconciler.core.plan import (
    Action,
    ConnectContainer,
    CreateContainer,
    EnsureNetwork,
    EnsureVolume,
    Outcome,
    Plan,
    PlannedAction,
    PreparePolicy,
    PrepareProxy,
    PullImage,
    ReloadProxy,
    RemoveContainer,
    RemoveFile,
    RemoveNetwork,
    RemoveVolume,
    Result,
    SetRestartPolicy,
    SetTraffic,
    StartContainer,
    StopContainer,
    TestProxyConfig,
    WaitHealthy,
    WaitPolicy,
    WaitProxy,
    WriteFile,
)
from reconciler.ports import Ports

LOOK_AGAIN_S = 0.05
"""When a wait is worth another look: the design's 50-100 ms between probes."""
DRAIN_LOOK_S = 0.1
"""The same while old workers finish: they stay for a second at least (`keepalive_min_timeout`)."""

Perform = Callable[[Action], Result]


def performer(ports: Ports) -> Perform:
    """What carries out one action: the port it belongs to."""

    def perform(action: Action) -> Result:
        match action:
            case WaitHealthy() | WaitPolicy():
                return Result(Outcome.PENDING, look_again_s=LOOK_AGAIN_S)
            case WaitProxy():
                return Result(Outcome.PENDING, look_again_s=DRAIN_LOOK_S if action.drained else LOOK_AGAIN_S)
            case WriteFile() | RemoveFile():
                return ports.files.apply(action)
            case PrepareProxy() | TestProxyConfig() | ReloadProxy() | SetTraffic():
                return ports.proxy.apply(action)
            case PreparePolicy():
                return ports.policy.prepare(action.revision)
            case (
                PullImage()
                | EnsureNetwork()
                | RemoveNetwork()
                | EnsureVolume()
                | RemoveVolume()
                | CreateContainer()
                | StartContainer()
                | ConnectContainer()
                | StopContainer()
                | RemoveContainer()
                | SetRestartPolicy()
            ):
                return ports.runtime.apply(action)
            case _:
                assert_never(action)

    return perform


def apply_plan(
    plan: Plan, perform: Perform, pool: ThreadPoolExecutor, held_back: Callable[[PlannedAction], float]
) -> tuple[Result, ...]:
    """One result for every step, in the plan's order. Never raises.

    A step runs once all it comes after answered ok; where one did not, it is SKIPPED. `held_back` answers
    how many seconds a step is still to be left alone (0 is not at all). A performer that raises is a bug:
    the step fails, saying so, and the rest goes on.
    """
    results: dict[int, Result] = {}
    running: dict[Future[Result], int] = {}
    waiting = dict(enumerate(plan.steps))
    while waiting or running:
        for index in [i for i, step in waiting.items() if all(needed in results for needed in step.after)]:
            step = waiting.pop(index)
            delay = held_back(step)
            if any(results[needed].outcome is not Outcome.OK for needed in step.after):
                results[index] = Result(Outcome.SKIPPED, "something before it is not done")
            elif delay > 0:
                results[index] = Result(Outcome.SKIPPED, f"left alone for {delay:.0f} s", look_again_s=delay)
            else:
                running[pool.submit(_guarded, perform, step.action)] = index
        if running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                results[running.pop(future)] = future.result()
    return tuple(results[index] for index in range(len(plan.steps)))


def _guarded(perform: Perform, action: Action) -> Result:
    try:
        return perform(action)
    except Exception as error:  # noqa: BLE001 - a bug in one adapter must not stop the loop; it is recorded as one
        return Result(Outcome.UNKNOWN, f"bug: {type(error).__name__}: {error}")
