"""What keeps a cycle from beginning something new, and what nothing keeps it from: healing."""

from __future__ import annotations

import dataclasses

import pytest

from reconciler.core.container import LABEL
from reconciler.core.desired import POLICY
from reconciler.core.errors import RenderError
from reconciler.core.plan import WriteFile
from reconciler.core.record import Cycle
from reconciler.core.rollout import Move, Phase
from reconciler.core.words import Teardown
from reconciler.cycle.seeing import POLICY_PATIENCE_S
from tests.cycle.cycle_world import V1, V2, World


@pytest.fixture
def deployed() -> World:
    world = World()
    world.converge()
    world.records.clear()
    return world


def settle(world: World, times: int = 10) -> Cycle:
    return [world.cycle() for _ in range(times)][-1]


def heals(world: World) -> bool:
    """A container that somebody removes comes back, within a few cycles, and gets the requests."""
    (box,) = world.boxes()
    world.broken.append("requests may fail until it is back")
    world.engine.destroy(box.name)
    settle(world)
    world.broken.clear()
    world.look()
    return [world.is_well(box) for box in world.boxes()] == [True]


# ---------------------------------------------------------------- policy


@pytest.mark.fault("E10")
@pytest.mark.parametrize("known", [True, False])
def test_a_manifest_that_admission_does_not_let_in_changes_nothing(deployed: World, known: bool) -> None:
    deployed.says("admission", allow=False, reason="not on a Friday", known=known)
    deployed.wants(V2)
    last = settle(deployed)
    assert (deployed.images(), deployed.store.good, last.desired) == (["demo:1"], V1, V1)
    assert any(verdict.reason == "not on a Friday" for verdict in last.verdicts)
    assert heals(deployed)


def test_a_first_manifest_that_admission_does_not_let_in_starts_nothing_but_opa() -> None:
    world = World()
    world.says("admission", allow=False, reason="no")
    settle(world)
    assert (world.boxes(), world.boxes("nginx"), len(world.boxes("opa"))) == ([], [], 1)


@pytest.mark.parametrize(
    ("known", "words"), [(True, "DENIED: Disk space below 10GB"), (False, "policy engine failed: Disk space below")]
)
def test_the_infrastructure_gate_holds_a_start_and_never_healing(deployed: World, known: bool, words: str) -> None:
    deployed.says("infrastructure", allow=False, reason="Disk space below 10GB", known=known)
    deployed.wants(V2)
    last = settle(deployed)
    assert last.decisions[0].move is Move.HOLD
    assert last.decisions[0].reason.startswith(words)
    assert (deployed.images(), heals(deployed), deployed.images()) == (["demo:1"], True, ["demo:1"])


def test_a_start_that_was_let_in_is_completed_whatever_the_gate_says_then(deployed: World) -> None:
    deployed.wants(V2)
    deployed.until(lambda _: "demo:2" in deployed.images())
    deployed.says("infrastructure", allow=False, reason="Disk space below 10GB")
    deployed.converge()
    assert deployed.images() == ["demo:2"]


@pytest.mark.fault("G1")
def test_a_policy_engine_that_does_not_answer_stops_no_healing_and_starts_nothing(deployed: World) -> None:
    deployed.opa_answers = False
    deployed.wants(V2)
    settle(deployed)
    assert (deployed.images(), heals(deployed), deployed.images()) == (["demo:1"], True, ["demo:1"])
    deployed.opa_answers = True
    deployed.converge()
    assert deployed.images() == ["demo:2"]


def test_policies_that_cannot_be_loaded_are_a_problem_of_their_manifest(deployed: World) -> None:
    deployed.wants(dataclasses.replace(V2, user_policies=(("mine.rego", "package system.log\n"),)))
    last = settle(deployed)
    assert [problem.file for problem in last.problems] == ["policies"]
    assert (deployed.images(), heals(deployed)) == (["demo:1"], True)


# ---------------------------------------------------------------- input


@pytest.mark.fault("E3")
def test_a_broken_manifest_leaves_the_last_good_one_in_force(deployed: World) -> None:
    deployed.wants(None, "expected a mapping")
    last = settle(deployed)
    assert [str(problem) for problem in last.problems] == ["manifest.yaml:1:1: expected a mapping"]
    assert (last.desired, heals(deployed)) == (V1, True)


def test_a_broken_manifest_and_none_before_it_is_only_recorded() -> None:
    world = World()
    world.wants(None, "expected a mapping")
    last = settle(world)
    assert (last.desired, world.engine.boxes, world.kinds()) == (None, {}, ["cycle"])


@pytest.mark.fault("E1")
def test_a_manifest_somebody_is_still_writing_is_not_looked_at(deployed: World) -> None:
    deployed.wants(V2, settled=False)
    last = settle(deployed)
    assert (last.is_settled, last.desired, deployed.images()) == (False, V1, ["demo:1"])
    deployed.wants(None, "half a line", settled=False)
    assert settle(deployed).problems == (), "a half-written file is nobody's mistake"


@pytest.mark.fault("J3")
def test_nothing_is_done_while_another_instance_runs_the_same_project(deployed: World) -> None:
    (box,) = deployed.boxes()
    box.labels[f"{LABEL}instance"] = "somebody-else"
    deployed.broken.append("theirs")
    before = set(deployed.engine.boxes)
    deployed.wants(V2)
    last = settle(deployed)
    assert (set(deployed.engine.boxes), last.plan.steps) == (before, ())
    assert "is run from another state directory already" in last.errors[0]


# ---------------------------------------------------------------- what we stand on breaks


@pytest.mark.fault("A15", "B1")
def test_a_dead_engine_is_a_record_not_a_crash(deployed: World) -> None:
    deployed.engine.is_down = True
    deployed.broken.append("nothing can be seen")
    last = settle(deployed)
    assert "Start the Docker Engine" in last.errors[0]
    assert [record["errors"] for record in deployed.records if record["kind"] == "cycle"] == [list(last.errors)], (
        "once, not ten times"
    )
    deployed.engine.is_down = False
    deployed.converge()


@pytest.mark.fault("B2")
def test_an_engine_that_dies_within_a_cycle_is_survived(deployed: World) -> None:
    def die(name: str) -> None:
        deployed.engine.is_down = deployed.engine.is_down or name == "before CreateContainer"

    deployed.around = die
    deployed.wants(V2)
    settle(deployed)
    deployed.around = lambda _name: None
    deployed.engine.is_down = False
    deployed.converge()
    assert deployed.images() == ["demo:2"]


@pytest.mark.fault("C1")
def test_a_word_that_could_not_be_saved_is_saved_as_soon_as_it_can_be(deployed: World) -> None:
    deployed.engine.is_down = deployed.store.is_full = True
    deployed.cycle(Teardown())
    assert any("no space left" in error for error in deployed.cycles[-1].errors)
    deployed.store.is_full = False
    deployed.cycle()
    deployed.restart()
    deployed.engine.is_down = False
    deployed.until(lambda _: not deployed.engine.boxes, 60)


def test_a_history_that_cannot_be_written_never_stops_healing(deployed: World) -> None:
    deployed.history_is_full = True
    assert heals(deployed)


@pytest.mark.fault("C1", "C2")
def test_nothing_new_begins_while_its_intent_cannot_be_written(deployed: World) -> None:
    deployed.history_is_full = True
    deployed.wants(V2)
    last = settle(deployed)
    assert "no space left" in last.errors[0]
    assert deployed.images() == ["demo:1"]
    deployed.history_is_full = False
    deployed.until(lambda _: "demo:2" in deployed.images())


@pytest.mark.fault("H2")
def test_a_bug_in_measuring_costs_verdicts_and_no_healing(deployed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_more: object) -> None:
        raise ValueError("math domain error")

    monkeypatch.setattr("reconciler.cycle.gates.look_at", broken)
    last = deployed.cycle()
    assert last.errors == ("bug in measuring: ValueError: math domain error",)
    assert heals(deployed)


@pytest.mark.fault("C1", "C2")
def test_a_state_that_cannot_be_saved_lets_nothing_new_begin_and_healing_go_on(deployed: World) -> None:
    deployed.store.is_full = True
    deployed.wants(V2)
    last = settle(deployed)
    assert "no space left" in last.errors[0]
    assert (deployed.images(), heals(deployed), deployed.images()) == (["demo:1"], True, ["demo:1"])
    deployed.store.is_full = False
    deployed.converge()
    assert deployed.images() == ["demo:2"]


def test_a_state_that_cannot_be_saved_halts_a_rollout_where_it_is(deployed: World) -> None:
    deployed.wants(V2)
    deployed.until(lambda _: "demo:2" in deployed.images())
    deployed.store.is_full = True
    before = deployed.app.phase
    settle(deployed)
    assert (deployed.app.phase, deployed.app.stable) == (before, deployed.store.rollout.of("app").stable)
    deployed.store.is_full = False
    deployed.converge()


@pytest.mark.fault("C1")
def test_a_full_disk_under_the_rendered_files_is_a_failed_action(deployed: World) -> None:
    deployed.files.is_full = True
    deployed.wants(V2)
    last = settle(deployed)
    failed = [r.detail for s, r in zip(last.plan.steps, last.results, strict=True) if isinstance(s.action, WriteFile)]
    assert failed
    assert all("disk is full" in detail for detail in failed)
    deployed.files.is_full = False
    deployed.converge()


def test_a_bug_in_an_adapter_is_an_unknown_result_and_the_rest_goes_on(deployed: World) -> None:
    def stumble(name: str) -> None:
        if name == "before ReloadProxy":
            raise ZeroDivisionError("division by zero")

    deployed.around = stumble
    deployed.wants(V2)
    last = deployed.until(lambda cycle: any("bug: " in result.detail for result in cycle.results))
    outcomes = [result.outcome.value for result in last.results if "ZeroDivisionError" in result.detail]
    assert outcomes == ["unknown"]
    deployed.around = lambda _name: None
    deployed.converge()
    assert deployed.app.phase is Phase.STABLE


@pytest.mark.fault("A19")
@pytest.mark.parametrize("error", [RenderError("services.app.name cannot go into nginx"), AssertionError("no port")])
def test_whatever_a_cycle_stumbles_over_is_recorded_and_the_next_one_goes_on(
    deployed: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def stumble(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("reconciler.formats.rendered.render", stumble)
        last = settle(deployed, 3)
    assert str(error) in last.errors[0]
    assert (last.plan.steps, len(deployed.boxes())) == ((), 1)
    deployed.converge()


@pytest.mark.fault("G2")
def test_a_new_policy_engine_has_its_own_time_to_answer_however_long_the_one_before_was_gone() -> None:
    """Else it is taken for stuck at its first look, removed, made anew, and so for ever."""
    world = World()
    world.converge()
    (old,) = world.boxes(POLICY)
    world.passes(60.0)
    del world.engine.boxes[old.id]
    world.opa_answers = False
    for _ in range(20):
        world.cycle()
    world.opa_answers = True
    world.converge()
    (new,) = world.boxes(POLICY)
    assert new.labels["io.swiftdeploy.generation"] == "1", "it was made once"
    assert set(world.memory.answered) == {new.id}, "who is gone is forgotten"


@pytest.mark.fault("G2")
def test_one_that_runs_and_goes_silent_is_replaced_after_its_time() -> None:
    world = World()
    world.converge()
    (old,) = world.boxes(POLICY)
    world.opa_answers = False
    world.cycle()
    world.passes(POLICY_PATIENCE_S - 1)
    world.cycle()
    assert [box.id for box in world.boxes(POLICY)] == [old.id]
    world.passes(2.0)
    world.until(lambda _: [box.id for box in world.boxes(POLICY)] != [old.id])


@pytest.mark.fault("G1")
@pytest.mark.parametrize(("code", "is_blamed"), [(2, True), (137, False), (143, False)])
def test_only_one_that_ended_by_itself_is_blamed_on_its_policies(deployed: World, code: int, is_blamed: bool) -> None:
    (running,) = deployed.boxes(POLICY)
    running.restart_policy = "no"
    deployed.engine.crash(running.name, exit_code=code)
    deployed.wants(V2)
    cycle = deployed.cycle()
    assert any("does not start with these policies" in str(problem) for problem in cycle.problems) is is_blamed
