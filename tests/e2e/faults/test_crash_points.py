"""The daemon is killed again and again at effects that a seed draws. All: `python -m tests.e2e.faults.crash_points`."""

from __future__ import annotations

import random

import docker
import pytest

from tests.e2e.faults.crash_points import RATE, Point, opened, run_once
from tests.e2e.faults.crash_scenarios import LIMIT_S, FirstDeploy, Teardown, Update
from tests.e2e.faults.crash_stack import CrashStack, traffic
from tests.e2e.stack import wait_for

SEED = 20
SIDES = ("before", "after")


def drawn(draw: random.Random, most: int, count: int) -> list[tuple[int, str]]:
    """Deaths, each so many effects after the one before it."""
    return [(number, draw.choice(SIDES)) for number in draw.sample(range(1, most), count)]


def whole_again(stack: CrashStack, deaths: int) -> None:
    assert len(stack.deaths) == deaths, "every one of them was reached"
    services = sorted(container.labels["io.swiftdeploy.service"] for container in stack.containers())
    assert services == ["app", "nginx", "opa"]
    assert stack.history_is_whole() == ""


@pytest.mark.fault("A1", "A2", "A3", "A4", "C5", "I5")
def test_a_daemon_killed_at_any_effect_must_come_to_the_same_end(engine: docker.DockerClient) -> None:
    """A first deployment and a canary's whole way, each with several deaths; no request is lost."""
    draw = random.Random(SEED)
    scenario = Update()
    with opened(FirstDeploy(), engine) as site:
        stack = site.stack
        stack.arm(*drawn(draw, 12, 4))
        stack.start()
        wait_for("deployed", lambda: stack.rests(site.version) and stack.answers(site.version), LIMIT_S)
        whole_again(stack, 4)
        kept = scenario.keeps(site)
        with traffic(stack.port, RATE) as client:
            stack.arm(*drawn(draw, 9, 6))
            scenario.act(site)
            wait_for("updated", lambda: scenario.is_done(site), LIMIT_S)
        assert client.failed == {}
        assert kept <= site.ids()
        whole_again(stack, 10)


@pytest.mark.fault("A1", "A2")
def test_a_teardown_that_is_killed_in_the_middle_ends_all_the_same(engine: docker.DockerClient) -> None:
    scenario = Teardown()
    with opened(scenario, engine) as site:
        run = run_once(scenario, site, Point(scenario.name, "torn down: RemoveContainer #1", "after"))
        assert (run.troubles, run.has_struck) == ([], True)
