"""Who judges: the policies in force, and nobody in their place; and an OPA that was told to end is not blamed."""

from __future__ import annotations

import dataclasses

import pytest

from reconciler.core.desired import POLICY, Opa
from reconciler.core.record import Verdict
from tests.cycle.cycle_world import V1, V2, World, _Policy

LOOSER = dataclasses.replace(V1, revision="9" * 64, opa=Opa("opa:mine"), limits={"canary": {"max_error_rate": 0.9}})


class Strict(_Policy):
    """The policies of `force` refuse every manifest; any others would take it."""

    force = ""

    def evaluate(self, domain: str, question: object, revision: str) -> Verdict:
        if domain == "admission" and revision == self.force:
            return Verdict(domain, False, "limits may not be loosened", action="hold")
        return super().evaluate(domain, question, revision)


@pytest.fixture
def strict() -> World:
    world = World()
    world.converge()
    policy = Strict(world)
    (policy.force,) = world.cycles[-1].observed.policies
    world.ports = dataclasses.replace(world.ports, policy=policy)
    world.engine.add_image("opa:mine")
    return world


@pytest.mark.parametrize("is_gone", [False, True], ids=["its image is here", "its image is gone"])
def test_no_manifest_is_let_in_by_its_own_policies(strict: World, is_gone: bool) -> None:
    if is_gone:
        strict.engine.images.pop(V1.opa.image)
    strict.wants(LOOSER)
    for _ in range(20):
        cycle = strict.cycle()
    assert strict.store.good == V1
    assert any(v.reason == "limits may not be loosened" for v in cycle.verdicts), "who is in force was asked"


def test_where_nobody_can_judge_a_manifest_waits_and_it_is_said_who_is_missing(strict: World) -> None:
    strict.engine.images.pop(V1.opa.image)
    for box in strict.boxes(POLICY):
        strict.engine.destroy(box.name)
    strict.wants(LOOSER)
    for _ in range(20):
        cycle = strict.cycle()
    assert strict.store.good == V1
    assert any(f"{V1.opa.image} is not here" in problem.message for problem in cycle.problems)
    strict.engine.add_image(V1.opa.image)
    strict.wants(dataclasses.replace(V1, revision="8" * 64, opa=Opa("opa:mine")))
    for _ in range(20):
        cycle = strict.cycle()
    assert any(v.reason == "limits may not be loosened" for v in cycle.verdicts), "and they judge again"


def test_the_same_policies_in_another_engine_judge_as_well() -> None:
    world = World()
    world.converge()
    world.engine.add_image("opa:mine")
    world.engine.images.pop(V1.opa.image)
    for box in world.boxes(POLICY):
        world.engine.destroy(box.name)
    wish = dataclasses.replace(V1, revision="9" * 64, opa=Opa("opa:mine"))
    world.wants(wish)
    world.until(lambda _: world.store.good == wish)
    assert world.store.good == wish


@pytest.mark.parametrize(("code", "is_blamed"), [(0, False), (137, False), (143, False), (1, True), (2, True)])
def test_policies_are_blamed_only_where_opa_ended_by_itself(code: int, is_blamed: bool) -> None:
    world = World()
    world.converge()
    world.wants(V2)
    (opa,) = world.boxes(POLICY)
    opa.restart_policy = "no"
    world.engine.crash(opa.id, code)
    assert any("OPA does not start" in p.message for p in world.cycle().problems) is is_blamed
