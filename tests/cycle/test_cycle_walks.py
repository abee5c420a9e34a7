"""Whole deployments and updates, cycle by cycle, on a host in memory whose nginx takes its time."""

from __future__ import annotations

import dataclasses

import pytest

from reconciler.core.desired import Mode
from reconciler.core.plan import Outcome
from reconciler.core.planner import PROXY_CONFIG
from reconciler.core.rollout import Move, Phase
from reconciler.core.words import Deploy, Retry, Teardown
from tests.builders import service
from tests.cycle.cycle_world import V1, V2, V3, World

CANARY = dataclasses.replace(V1, revision="c" * 64, services=(service(mode=Mode.CANARY),))


@pytest.fixture
def deployed() -> World:
    world = World()
    world.converge()
    world.cycle()
    world.cycles.clear()
    return world


def phases(world: World) -> list[Phase]:
    """Every phase the service went through, each once in a row."""
    found = [cycle.rollout.of("app").phase for cycle in world.cycles]
    return [phase for i, phase in enumerate(found) if i == 0 or found[i - 1] is not phase]


def test_a_first_deployment_walks_to_converged() -> None:
    world = World()
    world.converge()
    assert phases(world) == [Phase.ABSENT, Phase.STARTING, Phase.STABLE]
    assert (world.images(), len(world.boxes("nginx")), len(world.boxes("opa"))) == (["demo:1"], 1, 1)


def test_a_converged_host_is_left_alone(deployed: World) -> None:
    acts: list[str] = []
    deployed.around = acts.append
    cycles = [deployed.cycle() for _ in range(20)]
    assert all(not cycle.plan and cycle.is_converged for cycle in cycles)
    assert acts == []


PROMOTION = [
    Phase.STARTING,
    Phase.PROMOTING,
    Phase.PARKING,
    Phase.RENEWING,
    Phase.SWITCHING,
    Phase.SETTLING,
    Phase.WATCHING,
    Phase.STABLE,
]


@pytest.mark.fault("I14")
def test_an_update_goes_through_the_other_slot_and_ends_where_it_began(deployed: World) -> None:
    before = deployed.app.serving
    deployed.wants(V2)
    deployed.converge()
    assert (deployed.images(), deployed.app.serving) == (["demo:2"], before)
    assert [dict(box.request.spec.environment)["MODE"] for box in deployed.boxes()] == ["stable"]
    assert phases(deployed) == PROMOTION


@pytest.mark.fault("I3")
def test_the_old_container_goes_only_when_no_worker_of_nginx_knows_it_any_more(deployed: World) -> None:
    (old,) = deployed.boxes()
    (address,) = old.endpoints.values()
    known: list[bool] = []

    def note(name: str) -> None:
        if name in ("before StopContainer", "before RemoveContainer"):
            texts = [deployed.nginx.live or "", *(text for text, _ in deployed.nginx.old)]
            known.append(any(f"{address}:" in text for text in texts))

    deployed.around = note
    deployed.wants(V2)
    deployed.converge()
    assert known == [False] * 4, "stopped and removed: the old one, and then the canary"


@pytest.mark.fault("E8")
def test_a_newer_manifest_supersedes_a_start_that_was_under_way(deployed: World) -> None:
    deployed.sick = {"demo:2"}
    deployed.wants(V2)
    deployed.until(lambda _: deployed.app.phase is Phase.STARTING and "demo:2" in deployed.images())
    deployed.wants(V3)
    deployed.converge()
    assert deployed.images() == ["demo:3"]
    assert deployed.app.quarantined == (), "it was not given up, only overtaken"


@pytest.mark.fault("E9")
def test_going_back_to_what_runs_mid_start_only_clears_the_candidate_away(deployed: World) -> None:
    (box,) = deployed.boxes()
    deployed.sick = {"demo:2"}
    deployed.wants(V2)
    deployed.until(lambda _: "demo:2" in deployed.images())
    deployed.wants(V1)
    deployed.converge()
    assert [b.id for b in deployed.boxes()] == [box.id]


@pytest.mark.fault("B22")
def test_a_revision_that_never_gets_healthy_is_given_up_and_not_tried_again(deployed: World) -> None:
    deployed.sick = {"demo:2"}
    deployed.wants(V2)
    deployed.until(lambda _: "demo:2" in deployed.images())
    deployed.passes(61)
    deployed.until(lambda cycle: deployed.app.phase is Phase.STABLE)
    assert len(deployed.app.quarantined) == 1
    cycles = [deployed.cycle() for _ in range(10)]
    assert deployed.images() == ["demo:1"]
    assert all("was rolled back before" in cycle.decisions[0].reason and not cycle.plan for cycle in cycles)
    deployed.restart()
    deployed.cycle()
    assert deployed.images() == ["demo:1"], "a restart must not resurrect it"


@pytest.mark.fault("B22")
def test_a_crash_of_a_candidate_is_a_bad_sign_at_once(deployed: World) -> None:
    deployed.sick = {"demo:2"}
    deployed.wants(V2)
    deployed.until(lambda _: "demo:2" in deployed.images())
    deployed.engine.broken_images[deployed.engine.images["demo:2"].id] = "no such file"
    (bad,) = (box for box in deployed.boxes() if box.request.spec.image == "demo:2")
    deployed.engine.crash(bad.name)
    deployed.until(lambda cycle: deployed.app.phase is Phase.STABLE)
    assert deployed.app.quarantined
    assert deployed.clock.seconds < 30, "nobody waited for the deadline"


def test_a_given_up_revision_is_tried_again_when_an_operator_says_retry(deployed: World) -> None:
    deployed.sick = {"demo:2"}
    deployed.wants(V2)
    deployed.until(lambda _: "demo:2" in deployed.images())
    deployed.passes(61)
    deployed.until(lambda cycle: deployed.app.phase is Phase.STABLE)
    deployed.sick = set()
    deployed.cycle(Deploy())
    assert deployed.cycle().decisions[0].move is Move.HOLD, "a deployment is no reason to trust it again"
    deployed.cycle(Retry("app", reason="the database is back"))
    deployed.converge()
    assert deployed.images() == ["demo:2"]


def test_a_failed_first_deployment_leaves_nothing_of_it_running() -> None:
    world = World()
    world.sick = {"demo:1"}
    world.until(lambda _: world.images() == ["demo:1"])
    world.passes(61)
    world.until(lambda cycle: world.app.phase is Phase.ABSENT and bool(world.app.quarantined))
    world.cycle()
    assert world.images() == []


def test_scaling_up_and_down_never_takes_a_container_that_gets_requests(deployed: World) -> None:
    for replicas in (3, 1):
        deployed.wants(dataclasses.replace(V1, revision=str(replicas) * 64, services=(service(replicas=replicas),)))
        deployed.until(lambda cycle, n=replicas: cycle.is_converged and len(deployed.boxes()) == n)


@pytest.mark.fault("B26")
@pytest.mark.parametrize("image", ["demo:1", "nginx:1.30", "openpolicyagent/opa:1.19.0-static"])
def test_a_container_that_somebody_removed_comes_back(deployed: World, image: str) -> None:
    (victim,) = (box for box in deployed.engine.boxes.values() if box.request.spec.image == image)
    deployed.broken.append("requests may fail while it is gone")
    deployed.engine.destroy(victim.name)
    deployed.converge()
    assert [box.request.spec.image for box in deployed.engine.boxes.values()].count(image) == 1


@pytest.mark.fault("A14")
def test_a_reboot_is_healed(deployed: World) -> None:
    deployed.broken.append("a reboot")
    deployed.engine.reboot()
    deployed.converge()
    assert all(deployed.is_well(box) for box in deployed.boxes())


@pytest.mark.fault("B23")
def test_health_that_comes_and_goes_reloads_nothing(deployed: World) -> None:
    deployed.broken.append("the only container is ill every other cycle")
    texts, acts = dict(deployed.files.texts), []
    deployed.around = lambda name: acts.append(name) if name.startswith("before ") else None
    for _ in range(20):
        deployed.sick ^= {"demo:1"}
        deployed.cycle()
    assert (deployed.files.texts, [name for name in acts if name != "before append"]) == (texts, [])


@pytest.mark.fault("E12")
def test_the_same_wish_in_other_words_is_a_cycle_without_an_act(deployed: World) -> None:
    before = set(deployed.engine.boxes)
    deployed.wants(dataclasses.replace(V1, revision="e" * 64))
    assert not any(deployed.cycle().plan for _ in range(5))
    assert (set(deployed.engine.boxes), deployed.store.good) == (before, deployed.loaded.desired)


@pytest.mark.fault("B28")
def test_a_prune_of_everything_that_rests_is_healed(deployed: World) -> None:
    deployed.broken.append("a prune")
    for box in list(deployed.engine.boxes.values()):
        deployed.engine.destroy(box.name)
    images = dict(deployed.engine.images)
    deployed.engine.prune()
    deployed.engine.registry = images
    deployed.converge()
    assert deployed.images() == ["demo:1"]


@pytest.mark.fault("I11")
def test_a_hand_edit_of_a_rendered_file_is_undone(deployed: World) -> None:
    before = dict(deployed.files.texts)
    for path in before:
        deployed.files.texts[path] += "\n# edited\n"
    deployed.converge()
    assert deployed.files.texts == before


def test_a_torn_down_stack_stays_down_until_a_deploy_brings_it_back(deployed: World) -> None:
    deployed.cycle(Teardown())
    deployed.until(lambda cycle: not cycle.plan)
    assert deployed.engine.boxes == {}
    deployed.restart()
    deployed.wants(V2)
    deployed.cycle()
    assert deployed.engine.boxes == {}, "neither a restart nor a new manifest brings it back"
    deployed.converge(Deploy())
    assert deployed.images() == ["demo:2"]


@pytest.mark.fault("B3")
def test_a_failing_action_is_looked_at_again_and_done(deployed: World) -> None:
    from reconciler.core.plan import Result, StartContainer

    failures = [Result(Outcome.UNKNOWN, "timed out")] * 2
    deployed.engine.fault = lambda action: failures.pop() if isinstance(action, StartContainer) and failures else None
    deployed.wants(V2)
    deployed.converge()
    assert (deployed.images(), failures) == (["demo:2"], [])


def test_a_candidate_that_dies_before_the_switch_never_takes_the_old_one_with_it(deployed: World) -> None:
    deployed.wants(V2)
    deployed.until(lambda _: deployed.app.phase is Phase.PROMOTING)
    deployed.sick = {"demo:2"}
    (bad,) = (box for box in deployed.boxes() if box.request.spec.image == "demo:2")
    deployed.engine.crash(bad.name, oom=True)
    deployed.passes(61)
    deployed.until(lambda cycle: deployed.app.phase is Phase.STABLE)
    assert deployed.images() == ["demo:1"]


def test_a_stable_container_that_dies_while_a_new_one_starts_is_healed(deployed: World) -> None:
    deployed.sick = {"demo:2"}
    deployed.wants(V2)
    deployed.until(lambda _: "demo:2" in deployed.images())
    deployed.broken.append("it died")
    (old,) = (box for box in deployed.boxes() if box.request.spec.image == "demo:1")
    deployed.engine.destroy(old.name)
    deployed.until(lambda _: "demo:1" in deployed.images())
    assert deployed.app.phase is Phase.STARTING


@pytest.mark.fault("I6")
def test_another_nginx_port_is_only_announced_until_an_operator_allows_the_interruption(deployed: World) -> None:
    deployed.wants(dataclasses.replace(V1, revision="9" * 64, nginx=dataclasses.replace(V1.nginx, port=9090)))
    notes = deployed.until(lambda cycle: bool(cycle.plan.notes)).plan.notes
    assert "deploy --allow-interruption" in notes[0]
    (before,) = deployed.boxes("nginx")
    for _ in range(10):
        deployed.cycle()
    assert deployed.boxes("nginx") == [before]
    assert "listen 8080" in deployed.files.texts[PROXY_CONFIG], "nobody would answer at the port that is published"
    deployed.broken.append("the interruption that was allowed")
    deployed.cycle(Deploy(allow_interruption=True))
    deployed.until(lambda cycle: cycle.is_converged and not cycle.plan.notes)
    (after,) = deployed.boxes("nginx")
    assert [port.host_port for port in after.request.spec.ports] == [9090]
    assert "listen 9090" in deployed.files.texts[PROXY_CONFIG]


@pytest.mark.fault("I6")
def test_another_nginx_port_that_is_taken_costs_no_request_though_the_interruption_is_allowed(deployed: World) -> None:
    wish = dataclasses.replace(V1, revision="9" * 64, nginx=dataclasses.replace(V1.nginx, port=9090))
    deployed.engine.ports_of_others[9090] = "the process apache2 (pid 812)"
    (before,) = deployed.boxes("nginx")
    deployed.wants(wish)
    cycle = deployed.cycle(Deploy(allow_interruption=True))
    for _ in range(10):
        assert "listen 8080" in deployed.files.texts[PROXY_CONFIG], "it publishes no other port"
        cycle = deployed.cycle()
    assert deployed.boxes("nginx") == [before]
    assert cycle.plan.notes == (
        "nginx cannot move to port 9090: it is taken by the process apache2 (pid 812); free it, or change nginx.port",
    )


@pytest.mark.parametrize("hindrance", ["half a manifest", "no policy engine"])
def test_a_permission_that_waited_is_not_given_to_the_next_manifest(deployed: World, hindrance: str) -> None:
    allowed = dataclasses.replace(V1, revision="9" * 64, health_timeout_s=61.0)
    deployed.opa_answers = hindrance != "no policy engine"
    deployed.wants(allowed, settled=hindrance != "half a manifest")
    deployed.cycle(Deploy(allow_interruption=True))
    assert deployed.memory.allow_interruption, "it waits"
    deployed.wants(allowed)
    deployed.cycle()
    deployed.opa_answers = True
    (before,) = deployed.boxes("nginx")
    deployed.wants(dataclasses.replace(V1, revision="7" * 64, nginx=dataclasses.replace(V1.nginx, port=9999)))
    for _ in range(10):
        deployed.cycle()
    assert deployed.boxes("nginx") == [before]


@pytest.mark.parametrize("is_deaf", [False, True], ids=["half written", "no policy engine"])
def test_the_permission_lasts_until_the_manifest_it_was_given_for_is_looked_at(deployed: World, is_deaf: bool) -> None:
    wish = dataclasses.replace(V1, revision="9" * 64, nginx=dataclasses.replace(V1.nginx, port=9090))
    deployed.broken.append("the interruption that was allowed")
    deployed.opa_answers = not is_deaf
    deployed.wants(wish, settled=is_deaf)
    deployed.cycle(Deploy(allow_interruption=True))
    deployed.opa_answers = True
    deployed.wants(wish)
    deployed.until(lambda cycle: cycle.is_converged and "listen 9090" in deployed.files.texts[PROXY_CONFIG])
    (after,) = deployed.boxes("nginx")
    assert [port.host_port for port in after.request.spec.ports] == [9090]
    assert not deployed.memory.allow_interruption
