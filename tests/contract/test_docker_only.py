"""What only a real engine can show: that what we ask for is what a container gets, and that we hear of what happens."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
from pathlib import Path

import docker
import pytest
from contract_worlds import TEST_IMAGE, DockerWorld, Stage

from reconciler.adapters.clock import monotonic
from reconciler.adapters.docker_engine import DockerEngine
from reconciler.adapters.engine_connection import POOLS, connect_to, or_none
from reconciler.adapters.engine_events import EngineEvents
from reconciler.adapters.port_listeners import can_bind
from reconciler.core.container import LABEL, PublishedPort
from reconciler.core.desired import HealthCheck, Mount
from reconciler.core.observed import Status
from reconciler.core.plan import (
    EnsureVolume,
    Outcome,
    RemoveContainer,
    RemoveNetwork,
    Result,
    StartContainer,
    StopContainer,
)

pytestmark = pytest.mark.engine
on_docker = pytest.mark.parametrize("stage", ["docker"], indirect=True)


@pytest.fixture
def docker_stage(stage: Stage) -> Stage:
    stage.must(stage.ensure_network())
    return stage


def client_of(stage: Stage) -> docker.APIClient:
    assert isinstance(stage.world, DockerWorld)
    return stage.world.client


# ── refusals ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("B37")
@on_docker
def test_a_missing_directory_is_refused_and_not_created(docker_stage: Stage) -> None:
    missing = f"/tmp/{docker_stage.world.project}/none"
    mount = Mount("bind", missing, "/data", read_only=True)
    refused = docker_stage.apply(docker_stage.creation("a", docker_stage.spec(mounts=(mount,))))
    assert refused.outcome is Outcome.FAILED
    assert refused.detail == f"The directory {missing}, which is to be mounted, does not exist. Create it."
    assert not os.path.exists(missing)


@pytest.mark.control("K10")
@on_docker
def test_a_path_that_leads_elsewhere_by_now_is_given_to_no_service(docker_stage: Stage, tmp_path: Path) -> None:
    """Neither created with it, nor, made before it was swapped, started with it."""
    world, folder = docker_stage.world, tmp_path / "data"
    assert isinstance(world, DockerWorld)
    engine = DockerEngine(
        instance=world.instance, monotonic=monotonic, mount_trouble=lambda path: swapped.get(path, "")
    )
    swapped: dict[str, str] = {}
    spec = docker_stage.spec(mounts=(Mount("bind", str(folder), "/data"),))
    folder.mkdir()
    engine.observe(docker_stage.wanted())
    assert engine.apply(docker_stage.creation("a", spec)).outcome is Outcome.OK
    assert engine.apply(StartContainer(docker_stage.name("a"))).outcome is Outcome.OK
    swapped[str(folder)] = "data is a link."
    assert engine.apply(docker_stage.creation("b", spec)) == Result(Outcome.FAILED, "data is a link.")
    docker_stage.must(docker_stage.creation("c", spec))
    assert engine.apply(StartContainer(docker_stage.name("c"))) == Result(Outcome.FAILED, "data is a link.")
    engine.close()


@pytest.mark.fault("B17", "I6")
@on_docker
def test_a_port_that_a_process_holds_is_named(docker_stage: Stage, free_port: int) -> None:
    assert can_bind(free_port)
    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port))
        server.listen()
        assert not can_bind(free_port)
        holder = docker_stage.observe(ports=(free_port,)).ports_taken[free_port]
        assert f"(pid {os.getpid()})" in holder
        spec = docker_stage.spec(ports=(PublishedPort(free_port, 80),))
        docker_stage.must(docker_stage.creation("a", spec))
        refused = docker_stage.apply(StartContainer(docker_stage.name("a")))
        assert refused.outcome is Outcome.FAILED
        assert holder in refused.detail
    assert docker_stage.observe(ports=(free_port,)).ports_taken == {}
    docker_stage.must(StartContainer(docker_stage.name("a")))


def test_a_port_with_connections_that_are_over_is_free(free_port: int) -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", free_port))
        server.listen()
        client = socket.create_connection(("127.0.0.1", free_port))
        served, _ = server.accept()
        served.close()
        client.close()
    assert can_bind(free_port)


# ── what a container gets ──────────────────────────────────────────────────────────────────────────────────────────


@on_docker
def test_a_container_is_as_hardened_as_asked(docker_stage: Stage, free_port: int) -> None:
    volume = docker_stage.name("data")
    docker_stage.must(EnsureVolume(volume, ((f"{LABEL}project", docker_stage.world.project),)))
    spec = docker_stage.spec(
        user="10001:10001",
        environment=(("MODE", "canary"),),
        ports=(PublishedPort(free_port, 80, "127.0.0.1"),),
        mounts=(Mount("volume", volume, "/data"), Mount("bind", "/usr", "/host", read_only=True)),
        tmpfs=("/tmp",),
        init=True,
        healthcheck=HealthCheck(test=("CMD", "true"), interval_s=1.0, timeout_s=1.0, retries=1),
        restart_policy="on-failure:3",
        stop_signal="SIGINT",
        stop_grace_period_s=3.5,
        memory_bytes=64 << 20,
        cpus=0.5,
        pids=50,
    )
    docker_stage.must(docker_stage.creation("a", spec, address=docker_stage.address(20)))
    docker_stage.must(StartContainer(docker_stage.name("a")))
    seen = client_of(docker_stage).inspect_container(docker_stage.name("a"))
    host, config = seen["HostConfig"], seen["Config"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert (host["Privileged"], host["ReadonlyRootfs"], host["Init"]) == (False, True, True)
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (64 << 20, 500_000_000, 50)
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-file": "3", "max-size": "10m"}}
    assert host["PortBindings"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(free_port)}]}
    assert not host["Binds"]
    assert not host["Devices"]
    assert {host["PidMode"], host["UTSMode"], host["UsernsMode"]} == {""}
    assert host["IpcMode"] in ("", "private")
    assert (config["User"], config["StopSignal"], config["StopTimeout"]) == ("10001:10001", "SIGINT", 4)
    assert "MODE=canary" in config["Env"]
    assert config["Healthcheck"]["Test"] == ["CMD", "true"]
    [endpoint] = seen["NetworkSettings"]["Networks"].values()
    assert "app-blue" in endpoint["Aliases"]
    docker_stage.until(lambda: docker_stage.container("a").docker_health == "healthy")


@on_docker
def test_inside_nothing_can_be_written_but_what_was_given(docker_stage: Stage) -> None:
    script = "touch /x; touch /tmp/y && echo tmp; grep -c . /proc/self/status >/dev/null; cat /proc/self/status"
    spec = docker_stage.spec(command=("sh", "-c", script), tmpfs=("/tmp",), network=None, user="10001:10001")
    docker_stage.must(docker_stage.creation("a", spec))
    docker_stage.must(StartContainer(docker_stage.name("a")))
    docker_stage.until(lambda: docker_stage.container("a").status is Status.EXITED)
    lines = list(docker_stage.runtime.logs(docker_stage.container("a").id, tail=-1, follow=False))
    said = b"\n".join(lines).decode()
    assert "touch: /x: Read-only file system" in said
    assert "\ntmp\n" in f"\n{said}\n"
    assert "CapEff:\t0000000000000000" in said
    assert "NoNewPrivs:\t1" in said


@pytest.mark.fault("B33")
@on_docker
def test_two_networks_of_one_name_do_not_keep_a_container_from_starting_again(docker_stage: Stage) -> None:
    docker_stage.must(docker_stage.creation("a", address=docker_stage.address(20)))
    docker_stage.world.add_network(docker_stage.ensure_network())
    docker_stage.must(StartContainer(docker_stage.name("a")))
    found = docker_stage.container("a")
    docker_stage.until(lambda: docker_stage.apply(StopContainer(found.id, 5)).outcome is Outcome.OK)
    docker_stage.must(StartContainer(found.id))
    assert docker_stage.container("a").address == docker_stage.address(20)


@on_docker
def test_the_stop_signal_comes_first_and_the_kill_after_the_grace(docker_stage: Stage) -> None:
    deaf = docker_stage.spec(command=("sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"))
    docker_stage.must(docker_stage.creation("a", deaf))
    docker_stage.must(StartContainer(docker_stage.name("a")))
    found = docker_stage.container("a")
    assert docker_stage.apply(StopContainer(found.id, 1.0)).outcome is Outcome.PENDING
    docker_stage.until(lambda: docker_stage.container("a").status is Status.EXITED)
    assert docker_stage.container("a").exit_code == 137


@pytest.mark.fault("B22")
@on_docker
def test_running_out_of_memory_is_seen(docker_stage: Stage) -> None:
    fills = ("sh", "-c", "cat /dev/zero > /tmp/x; sleep 2")
    spec = docker_stage.spec(command=fills, tmpfs=("/tmp:size=900m",), memory_bytes=16 << 20)
    docker_stage.must(docker_stage.creation("a", spec))
    docker_stage.must(StartContainer(docker_stage.name("a")))
    docker_stage.until(lambda: docker_stage.container("a").oom_killed)
    assert docker_stage.container("a").oom_killed


# ── hearing of it ──────────────────────────────────────────────────────────────────────────────────────────────────


@on_docker
def test_logs_are_followed_until_the_container_ends(docker_stage: Stage) -> None:
    script = "echo one; sleep 0.3; printf 'two\\nthree'; sleep 0.3; echo ' and four'"
    docker_stage.must(docker_stage.creation("a", docker_stage.spec(command=("sh", "-c", script))))
    docker_stage.must(StartContainer(docker_stage.name("a")))
    followed = docker_stage.runtime.logs(docker_stage.container("a").id, tail=-1, follow=True)
    lines = [line for line in followed if line is not None]
    assert lines == [b"one", b"two", b"three and four"]


@on_docker
def test_we_are_woken_by_what_happens_to_ours_and_by_nothing_else(docker_stage: Stage) -> None:
    woken: queue.Queue[str] = queue.Queue()
    events = EngineEvents(docker_stage.world.project, woken.put, networks=lambda: frozenset((docker_stage.network,)))
    events.start()
    try:
        assert woken.get(timeout=10) == "connected"
        stranger = docker_stage.world.add_foreign(docker_stage.name("stranger"))
        docker_stage.must(docker_stage.creation("a"))
        docker_stage.must(StartContainer(docker_stage.name("a")))
        assert woken.get(timeout=10) == f"{docker_stage.name('a')} start"
        docker_stage.world.kill(docker_stage.name("a"))
        assert woken.get(timeout=10) in (
            f"{docker_stage.name('a')} die",
            f"network {docker_stage.network} disconnect",
        )
        docker_stage.must(RemoveContainer(docker_stage.container("a").id))
        [network] = docker_stage.observe().networks
        docker_stage.must(RemoveNetwork(network.id, network.name))
        heard = []
        while f"network {docker_stage.network} destroy" not in heard:
            heard.append(woken.get(timeout=10))
        assert f"{docker_stage.name('a')} destroy" in heard
        assert not [words for words in heard if "stranger" in words or stranger in words]
    finally:
        events.stop()


@on_docker
def test_health_that_changes_is_heard(docker_stage: Stage) -> None:
    woken: queue.Queue[str] = queue.Queue()
    with contextlib.ExitStack() as stack:
        events = EngineEvents(docker_stage.world.project, woken.put)
        events.start()
        stack.callback(events.stop)
        assert woken.get(timeout=10) == "connected"
        check = HealthCheck(test=("CMD", "true"), interval_s=1.0, timeout_s=1.0, retries=1)
        docker_stage.must(docker_stage.creation("a", docker_stage.spec(healthcheck=check)))
        docker_stage.must(StartContainer(docker_stage.name("a")))
        assert woken.get(timeout=10) == f"{docker_stage.name('a')} start"
        assert woken.get(timeout=10) == f"{docker_stage.name('a')} health_status: healthy"


@pytest.mark.fault("A15", "B30")
def test_an_engine_that_is_not_there_is_waited_for_and_stopping_is_quick(tmp_path: object) -> None:
    woken: queue.Queue[str] = queue.Queue()
    events = EngineEvents("p", woken.put, base_url=f"unix://{tmp_path}/none.sock")
    events.start()
    threading.Event().wait(0.2)
    events.stop()
    assert woken.empty()


@on_docker
def test_the_engine_tells_about_itself(docker_stage: Stage) -> None:
    assert isinstance(docker_stage.world, DockerWorld)
    facts = docker_stage.world.engine.engine_info()
    assert facts.version
    assert facts.data_root.startswith("/")
    assert facts.cgroup_version in ("1", "2")
    assert facts.cpus > 0


@on_docker
def test_a_whole_look_is_quick(docker_stage: Stage) -> None:
    """The design's figure is 15 ms for three containers; a machine that tests load may take longer."""
    for name in ("a", "b", "c"):
        docker_stage.must(docker_stage.creation(name))
        docker_stage.must(StartContainer(docker_stage.name(name)))
    took = []
    for _ in range(20):
        begun = monotonic()
        assert len(docker_stage.observe(images=(TEST_IMAGE,)).containers) == 3
        took.append(monotonic() - begun)
    assert min(took) < 0.060


def test_questions_about_many_containers_hold_few_connections() -> None:
    client = connect_to("unix:///var/run/docker.sock", "auto", 10.0)
    with contextlib.closing(client):
        before = len(os.listdir("/proc/self/fd"))
        for number in range(60):
            assert or_none(lambda number=number: client.inspect_container(f"nobody-{number}")) is None  # type: ignore[misc]
        assert len(os.listdir("/proc/self/fd")) - before <= POOLS
