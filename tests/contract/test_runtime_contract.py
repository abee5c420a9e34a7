"""What every Runtime refuses, and then what it does. Runs in memory and against a real engine."""

from __future__ import annotations

import pytest
from contract_worlds import TEST_IMAGE, Stage

from reconciler.adapters.memory import MemoryEngine
from reconciler.core.container import LABEL, PublishedPort
from reconciler.core.desired import Mount
from reconciler.core.errors import EngineError
from reconciler.core.observed import Slot, Status
from reconciler.core.plan import (
    ConnectContainer,
    EnsureVolume,
    Outcome,
    PullImage,
    RemoveContainer,
    RemoveNetwork,
    RemoveVolume,
    SetTraffic,
    StartContainer,
    StopContainer,
    WaitHealthy,
)

# ── refusals ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("B6")
def test_a_name_is_given_once(stage: Stage) -> None:
    stage.must(stage.ensure_network())
    stage.must(stage.creation("a"))
    second = stage.apply(stage.creation("a", revision="r2"))
    assert second.outcome is Outcome.FAILED
    assert stage.container("a").id[:12] in second.detail
    assert stage.container("a").revision == "r1"


@pytest.mark.fault("B4", "B5")
def test_the_same_creation_again_is_adopted(stage: Stage) -> None:
    stage.must(stage.ensure_network())
    stage.must(stage.creation("a"))
    first = stage.container("a").id
    assert "adopted" in stage.must(stage.creation("a")).detail
    assert stage.container("a").id == first


@pytest.mark.fault("B7")
def test_a_name_that_a_stranger_holds_is_refused_and_the_stranger_stays(stage: Stage) -> None:
    stage.must(stage.ensure_network())
    stranger = stage.world.add_foreign(stage.name("a"))
    refused = stage.apply(stage.creation("a"))
    assert refused.outcome is Outcome.FAILED
    assert stranger[:12] in refused.detail
    assert stage.world.exists(stranger)


@pytest.mark.fault("B7")
def test_a_name_that_another_instance_holds_is_not_adopted(stage: Stage) -> None:
    stage.must(stage.ensure_network())
    stage.must(stage.creation("a", instance="another"))
    assert stage.apply(stage.creation("a", instance="another")).outcome is Outcome.FAILED


@pytest.mark.fault("B8")
def test_an_image_that_is_not_here_starts_nothing(stage: Stage) -> None:
    stage.must(stage.ensure_network())
    refused = stage.apply(stage.creation("a", stage.spec(image_id=f"sha256:{'0' * 64}")))
    assert refused.outcome is Outcome.FAILED
    assert "not here" in refused.detail
    assert stage.observe().containers == ()


@pytest.mark.fault("B18")
def test_a_network_that_is_not_there_is_named(stage: Stage) -> None:
    refused = stage.apply(stage.creation("a"))
    assert refused.outcome is Outcome.FAILED
    assert stage.network in refused.detail


@pytest.mark.fault("B35")
def test_two_containers_do_not_get_one_address(stage: Stage) -> None:
    stage.must(stage.ensure_network())
    for name in ("a", "b"):
        stage.must(stage.creation(name, address=stage.address(20)))
    stage.must(StartContainer(stage.name("a")))
    refused = stage.apply(StartContainer(stage.name("b")))
    assert refused.outcome is Outcome.FAILED
    assert stage.name("a") in refused.detail
    assert not stage.container("b").is_running
    stage.must(RemoveContainer(stage.container("a").id))
    stage.must(StartContainer(stage.name("b")))
    assert stage.container("b").address == stage.address(20)


@pytest.mark.fault("B17", "I6")
def test_a_port_that_a_stranger_holds_is_said_before_and_when_starting(stage: Stage, free_port: int) -> None:
    stage.must(stage.ensure_network())
    stage.world.add_foreign(stage.name("stranger"), port=free_port)
    assert stage.name("stranger") in stage.observe(ports=(free_port,)).ports_taken[free_port]
    stage.must(stage.creation("a", stage.spec(ports=(PublishedPort(free_port, 80),))))
    refused = stage.apply(StartContainer(stage.name("a")))
    assert refused.outcome is Outcome.FAILED
    assert str(free_port) in refused.detail
    assert stage.name("stranger") in refused.detail
    failed = stage.container("a")
    assert failed.status is Status.CREATED
    assert failed.error
    assert failed.exit_code


def test_a_port_of_our_own_is_not_taken(stage: Stage, free_port: int) -> None:
    stage.must(stage.ensure_network())
    stage.must(stage.creation("a", stage.spec(ports=(PublishedPort(free_port, 80),))))
    stage.must(StartContainer(stage.name("a")))
    assert stage.observe(ports=(free_port,)).ports_taken == {}


@pytest.mark.fault("B19")
def test_a_program_that_is_not_in_the_image_is_a_clear_refusal(stage: Stage) -> None:
    stage.must(stage.ensure_network())
    stage.must(stage.creation("a", stage.spec(image_id=stage.world.broken_image_id, command=("/no/such",))))
    refused = stage.apply(StartContainer(stage.name("a")))
    assert refused.outcome is Outcome.FAILED
    assert "/no/such" in refused.detail
    assert stage.container("a").status is Status.CREATED


@pytest.mark.fault("B29", "B40")
@pytest.mark.parametrize("act", [RemoveContainer, lambda found: StopContainer(found, 0.0)])
def test_what_is_not_ours_is_neither_stopped_nor_removed(stage: Stage, act: type[RemoveContainer]) -> None:
    stage.observe()
    labels = {f"{LABEL}project": stage.world.project, f"{LABEL}instance": "another"}
    for stranger in (
        stage.world.add_foreign(stage.name("plain")),
        stage.world.add_foreign(stage.name("same-project"), labels=labels),
    ):
        assert stage.apply(act(stranger)).outcome is Outcome.FAILED
        assert stage.world.exists(stranger)
    assert stage.container("same-project").is_running
    assert not stage.container("same-project").ours


def test_a_network_in_use_or_not_ours_stays(stage: Stage) -> None:
    stage.must(stage.ensure_network())
    stage.must(stage.creation("a"))
    stage.must(StartContainer(stage.name("a")))
    [ours] = stage.observe().networks
    in_use = stage.apply(RemoveNetwork(ours.id, ours.name))
    assert in_use.outcome is Outcome.FAILED
    assert stage.name("a") in in_use.detail
    theirs = stage.world.add_network(stage.ensure_network(ours=False))
    assert stage.apply(RemoveNetwork(theirs, stage.network)).outcome is Outcome.FAILED
    assert {network.id for network in stage.observe().networks} == {ours.id, theirs}


def test_a_volume_that_is_not_ours_stays_even_where_we_mount_it(stage: Stage) -> None:
    stage.must(stage.ensure_network())
    name = stage.name("theirs")
    stage.world.add_volume(name)
    assert name not in stage.observe().volumes
    stage.must(stage.creation("a", stage.spec(mounts=(Mount("volume", name, "/data"),))))
    assert name in stage.observe().volumes
    stage.must(RemoveContainer(stage.container("a").id))
    assert stage.apply(RemoveVolume(name)).outcome is Outcome.FAILED
    assert stage.world.has_volume(name)


def test_a_volume_in_use_stays(stage: Stage) -> None:
    stage.must(stage.ensure_network())
    name = stage.name("data")
    stage.must(EnsureVolume(name, ((f"{LABEL}project", stage.world.project),)))
    stage.must(stage.creation("a", stage.spec(mounts=(Mount("volume", name, "/data"),))))
    stage.observe()
    assert stage.apply(RemoveVolume(name)).outcome is Outcome.FAILED
    assert stage.world.has_volume(name)


def test_a_fixed_address_needs_to_be_in_the_network(stage: Stage) -> None:
    stage.must(stage.ensure_network())
    refused = stage.apply(stage.creation("a", address="192.0.2.7"))
    started = stage.apply(StartContainer(stage.name("a")))
    assert Outcome.FAILED in (refused.outcome, started.outcome)


def test_what_is_not_for_the_engine_is_refused(stage: Stage) -> None:
    for action in (SetTraffic("app", 5), WaitHealthy("x")):
        assert stage.apply(action).outcome is Outcome.FAILED


@pytest.mark.fault("B9")
def test_an_image_that_nobody_has_fails_and_is_not_asked_for_again_at_once(stage: Stage) -> None:
    reference = "127.0.0.1:9/contract/nowhere:1"
    stage.observe()
    assert stage.apply(PullImage(reference)).outcome is Outcome.PENDING
    stage.until(lambda: reference in stage.observe(images=(reference,)).images_failed)
    again = stage.apply(PullImage(reference))
    assert again.outcome is Outcome.FAILED
    assert reference in again.detail
    stage.runtime.forget_image_failures()  # type: ignore[attr-defined]
    assert stage.apply(PullImage(reference)).outcome is Outcome.PENDING


# ── what it does ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_container_is_seen_as_it_was_made(stage: Stage) -> None:
    stage.must(stage.ensure_network())
    stage.must(stage.creation("a", address=stage.address(20), slot="green", replica="2", generation="7", mode="canary"))
    [network] = stage.observe().networks
    assert (network.ours, network.subnet, network.driver) == (True, stage.subnet, "bridge")
    assert network.ip_range == stage.ensure_network().ip_range
    assert stage.subnet in stage.observe().taken_subnets
    made = stage.container("a")
    assert (made.service, made.revision, made.slot, made.replica) == ("app", "r1", Slot.GREEN, 2)
    assert (made.mode, made.generation, made.ours, made.status) == ("canary", 7, True, Status.CREATED)
    assert (made.address, made.networks, made.pid) == (stage.address(20), (network.id,), 0)
    assert (made.exit_code, made.error, made.started_at) == (None, "", "")
    stage.must(StartContainer(made.id))
    runs = stage.container("a")
    assert (runs.status, runs.exit_code, runs.address) == (Status.RUNNING, None, stage.address(20))
    assert runs.pid > 0
    assert runs.started_at
    assert stage.address(20) in stage.observe().taken_addresses


@pytest.mark.fault("B12")
def test_starting_and_stopping_twice_is_the_same_as_once(stage: Stage) -> None:
    stage.must(stage.ensure_network())
    stage.must(stage.creation("a"))
    for _ in range(2):
        stage.must(StartContainer(stage.name("a")))
    found = stage.container("a")
    for _ in range(2):
        stage.until(lambda: stage.apply(StopContainer(found.id, 5.0)).outcome is Outcome.OK)
        assert stage.container("a").status is Status.EXITED
    assert stage.container("a").exit_code == 0


@pytest.mark.fault("B11")
def test_what_is_gone_is_stopped_and_removed(stage: Stage) -> None:
    stage.observe()
    for action in (RemoveContainer("f" * 64), StopContainer("f" * 64, 1.0), RemoveNetwork("f" * 64, "x")):
        stage.must(action)
    stage.must(RemoveVolume(stage.name("nothing")))


@pytest.mark.fault("B13")
def test_a_running_container_is_removed_at_once(stage: Stage) -> None:
    stage.must(stage.ensure_network())
    stage.must(stage.creation("a"))
    stage.must(StartContainer(stage.name("a")))
    stage.must(RemoveContainer(stage.container("a").id))
    assert stage.observe().containers == ()


@pytest.mark.parametrize(("policy", "comes_back"), [("unless-stopped", True), ("no", False)])
def test_the_restart_policy_is_the_first_healer(stage: Stage, policy: str, comes_back: bool) -> None:
    stage.must(stage.ensure_network())
    stage.must(stage.creation("a", stage.spec(restart_policy=policy)))
    stage.must(StartContainer(stage.name("a")))
    first = stage.container("a").pid
    stage.world.kill(stage.name("a"))
    if comes_back:
        stage.until(lambda: stage.container("a").is_running and stage.container("a").pid != first)
        assert stage.container("a").restarts == 1
    else:
        stage.until(lambda: stage.container("a").status is Status.EXITED)
        assert stage.container("a").exit_code == 137


@pytest.mark.fault("B35", "I8")
def test_a_fixed_address_survives_a_stop_and_is_never_given_to_others(stage: Stage) -> None:
    stage.must(stage.ensure_network())
    stage.must(stage.creation("a", address=stage.address(30)))
    stage.must(StartContainer(stage.name("a")))
    found = stage.container("a")
    stage.until(lambda: stage.apply(StopContainer(found.id, 5.0)).outcome is Outcome.OK)
    assert stage.container("a").address == stage.address(30)
    assert stage.address(30) in stage.observe().taken_addresses
    stage.must(StartContainer(found.id))
    assert stage.container("a").address == stage.address(30)


@pytest.mark.fault("B33")
def test_networks_of_one_name_are_all_seen_and_the_used_one_comes_first(stage: Stage) -> None:
    stage.must(stage.ensure_network())
    [first] = stage.observe().networks
    stage.must(stage.creation("a"))
    stage.must(StartContainer(stage.name("a")))
    second = stage.world.add_network(stage.ensure_network())
    seen = stage.observe().networks
    assert [network.id for network in seen] == [first.id, second]
    assert [network.attached for network in seen] == [1, 0]
    assert "exists" in stage.must(stage.ensure_network()).detail
    stage.must(stage.creation("b", address=stage.address(40)))
    stage.must(StartContainer(stage.name("b")))
    assert stage.container("b").networks == (first.id,)
    stage.must(RemoveNetwork(second, stage.network))
    assert [network.id for network in stage.observe().networks] == [first.id]


@pytest.mark.fault("B27")
@pytest.mark.parametrize("running", [True, False])
def test_a_container_that_lost_its_network_is_connected_again(stage: Stage, running: bool) -> None:
    stage.must(stage.ensure_network())
    stage.must(stage.creation("a", address=stage.address(50)))
    stage.must(StartContainer(stage.name("a")))
    found = stage.container("a")
    if not running:
        stage.until(lambda: stage.apply(StopContainer(found.id, 5.0)).outcome is Outcome.OK)
    [lost] = stage.observe().networks
    stage.world.lose_network(lost.id)
    assert stage.observe().networks == ()
    assert lost.id not in stage.container("a").networks
    stage.must(stage.ensure_network())
    [network] = stage.observe().networks
    for _ in range(2):
        stage.must(ConnectContainer(found.id, stage.network, stage.address(50), ("app-blue",)))
    stage.must(StartContainer(found.id))
    again = stage.container("a")
    assert (again.id, again.is_running, again.address) == (found.id, True, stage.address(50))
    assert again.networks == (network.id,)


def test_a_volume_of_ours_comes_and_goes(stage: Stage) -> None:
    name = stage.name("data")
    action = EnsureVolume(name, ((f"{LABEL}project", stage.world.project),))
    for _ in range(2):
        stage.must(action)
    assert stage.observe().volumes == {name}
    stage.must(RemoveVolume(name))
    assert stage.observe().volumes == frozenset()


def test_the_facts_are_good_where_the_engine_answers(stage: Stage) -> None:
    facts = stage.runtime.facts()
    assert facts
    assert all(is_good for _, is_good, _ in facts)


def test_an_empty_host_is_an_empty_state(stage: Stage) -> None:
    state = stage.observe(images=("swiftdeploy-test/none",))
    assert (state.containers, state.networks, state.volumes) == ((), (), frozenset())
    assert (dict(state.images), dict(state.images_failed), dict(state.ports_taken)) == ({}, {}, {})


def test_an_image_that_is_here_is_seen_under_its_reference(stage: Stage) -> None:
    found = stage.observe(images=(TEST_IMAGE,)).images[TEST_IMAGE]
    assert (found.id, found.used, found.is_substitute) == (stage.world.image_id, TEST_IMAGE, False)


def test_logs_come_in_lines_and_those_of_nobody_are_an_error(stage: Stage) -> None:
    stage.must(stage.ensure_network())
    stage.must(stage.creation("a", stage.spec(command=("sh", "-c", "echo one; echo two; echo three"))))
    stage.must(StartContainer(stage.name("a")))
    if isinstance(stage.runtime, MemoryEngine):
        stage.runtime.box(stage.name("a")).log += [b"one", b"two", b"three"]
    found = stage.container("a").id
    stage.until(lambda: list(stage.runtime.logs(found, tail=-1, follow=False)) == [b"one", b"two", b"three"])
    assert list(stage.runtime.logs(found, tail=2, follow=False)) == [b"two", b"three"]
    with pytest.raises(EngineError):
        list(stage.runtime.logs("f" * 64, tail=1, follow=False))
