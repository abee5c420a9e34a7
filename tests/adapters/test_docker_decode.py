"""What we ask of the engine, what we make of its answers, and what its refusals mean. Odd answers first."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.adapters import docker_decode as decode
from reconciler.core.container import ContainerSpec, PublishedPort
from reconciler.core.desired import HealthCheck, Mount
from reconciler.core.errors import EngineError
from reconciler.core.observed import ObservedNetwork, Slot, Status
from reconciler.core.plan import CreateContainer

LABELS = {
    "io.swiftdeploy.project": "shop",
    "io.swiftdeploy.instance": "i1",
    "io.swiftdeploy.service": "api",
    "io.swiftdeploy.revision": "abc",
    "io.swiftdeploy.slot": "green",
    "io.swiftdeploy.replica": "2",
    "io.swiftdeploy.generation": "14",
    "io.swiftdeploy.mode": "canary",
}


def inspected(**changes: Any) -> dict[str, Any]:
    """An inspection of a container that runs, as Docker 20.10 writes it."""
    answer: dict[str, Any] = {
        "Id": "c" * 64,
        "Name": "/shop-api-green",
        "Image": "sha256:1",
        "RestartCount": 3,
        "State": {
            "Status": "running",
            "Running": True,
            "Pid": 4711,
            "ExitCode": 0,
            "Error": "",
            "OOMKilled": False,
            "StartedAt": "2026-11-23T02:06:51.963772888Z",
            "Health": {"Status": "starting"},
        },
        "Config": {"Labels": dict(LABELS)},
        "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}], "81/tcp": None}},
        "NetworkSettings": {
            "Networks": {"net": {"NetworkID": "n1", "IPAddress": "10.0.0.9", "IPAMConfig": {"IPv4Address": "10.0.0.9"}}}
        },
        "Mounts": [{"Type": "volume", "Name": "logs"}, {"Type": "volume", "Name": "f" * 64}, {"Type": "bind"}],
    }
    return {**answer, **changes}


def container(answer: Any) -> Any:
    return decode.container(answer, project="shop", instance="i1", network="net", network_ids={"net": "n1"})


# ── odd answers ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("answer", [{}, {"Id": None}, {"Id": ""}, {"Id": 5}, [], None, "text"])
def test_an_answer_without_an_id_is_no_answer(answer: Any) -> None:
    with pytest.raises(EngineError, match="no ID"):
        decode.identifier(answer)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.fault("B32")
@given(st.dictionaries(st.sampled_from([*inspected(), "Labels"]), JSON), JSON)
def test_no_answer_breaks_the_decoder(changes: dict[str, Any], inner: Any) -> None:
    answer = inspected(**{**changes, "Id": "x"})
    for key in ("State", "Config", "HostConfig", "NetworkSettings"):
        if isinstance(answer.get(key), dict):
            answer[key] = {name: inner for name in answer[key]}
    found = container(answer)
    assert isinstance(found.status, Status)
    for ask in (decode.bound_ports, decode.mounted_volumes, decode.listed_ports, decode.subnets, decode.addresses_in):
        assert isinstance(ask(answer), set)
    assert decode.listed_name(answer)
    decode.network(answer, "shop")
    decode.image(answer, "a", "a")
    decode.pull_failure(answer)


@pytest.mark.fault("B32")
def test_a_state_nobody_has_heard_of_is_unknown() -> None:
    assert container(inspected(State={"Status": "hibernating"})).status is Status.UNKNOWN
    assert container(inspected(State={})).status is Status.UNKNOWN


@pytest.mark.fault("B40")
@pytest.mark.parametrize(("key", "value"), [("project", "other"), ("instance", "i2"), ("instance", None)])
def test_what_carries_another_project_or_instance_is_not_ours(key: str, value: str | None) -> None:
    labels = {**LABELS, f"io.swiftdeploy.{key}": value}
    assert not container(inspected(Config={"Labels": labels})).ours


def test_nothing_is_ours_before_a_project_is_known() -> None:
    assert not decode.is_ours({"io.swiftdeploy.project": "", "io.swiftdeploy.instance": "i1"}, "", "i1")
    assert not decode.may_be_ours({}, "", "i1")


@pytest.mark.parametrize("number", ["-1", "1e3", "", "x", "١", "9" * 30])
def test_a_label_that_is_no_number_is_none(number: str) -> None:
    labels = {**LABELS, "io.swiftdeploy.replica": number, "io.swiftdeploy.generation": number}
    found = container(inspected(Config={"Labels": labels}))
    assert (found.replica, found.generation) == (None, 0)


# ── answers ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_running_container_reads_as_it_is() -> None:
    found = container(inspected())
    assert (found.name, found.service, found.revision) == ("shop-api-green", "api", "abc")
    assert (found.slot, found.replica, found.generation, found.mode) == (Slot.GREEN, 2, 14, "canary")
    assert (found.ours, found.status, found.pid, found.restarts) == (True, Status.RUNNING, 4711, 3)
    assert (found.exit_code, found.docker_health, found.address, found.networks) == (
        None,
        "starting",
        "10.0.0.9",
        ("n1",),
    )


def test_a_container_that_never_ran_has_no_exit_code_and_no_start() -> None:
    never = {"Status": "created", "ExitCode": 0, "Error": "", "StartedAt": "0001-01-01T00:00:00Z"}
    found = container(inspected(State=never))
    assert (found.exit_code, found.started_at, found.docker_health) == (None, "", None)


@pytest.mark.fault("B17")
def test_a_start_that_failed_shows_its_code_and_its_reason() -> None:
    failed = container(inspected(State={"Status": "created", "ExitCode": 128, "Error": "port is already allocated"}))
    assert (failed.exit_code, failed.error) == (128, "port is already allocated")


def test_a_network_known_by_name_only_gets_its_id() -> None:
    networks = {"net": {"NetworkID": "", "IPAddress": "", "IPAMConfig": {"IPv4Address": "10.0.0.9"}}}
    found = container(inspected(NetworkSettings={"Networks": networks}))
    assert (found.networks, found.address) == (("n1",), "10.0.0.9")


def test_the_address_in_our_network_beats_others() -> None:
    networks = {"a": {"NetworkID": "n0", "IPAddress": "10.9.9.9"}, "net": {"NetworkID": "n1", "IPAddress": "10.0.0.9"}}
    assert container(inspected(NetworkSettings={"Networks": networks})).address == "10.0.0.9"


def test_only_a_running_container_holds_its_ports() -> None:
    assert decode.bound_ports(inspected()) == {8080}
    assert decode.bound_ports(inspected(State={"Running": False})) == set()


def test_anonymous_volumes_are_not_counted() -> None:
    assert decode.mounted_volumes(inspected()) == {"logs"}


def test_a_networks_addresses_and_subnets_are_read() -> None:
    answer = {
        "IPAM": {"Config": [{"Subnet": "10.0.0.0/22", "IPRange": "10.0.2.0/23", "Gateway": "10.0.2.0"}]},
        "Containers": {"x": {"IPv4Address": "10.0.0.9/22"}, "y": {"IPv4Address": ""}},
    }
    assert decode.addresses_in(answer) == {"10.0.0.9", "10.0.2.0"}
    assert decode.subnets(answer) == {"10.0.0.0/22"}
    assert decode.subnets({"IPAM": {"Config": [{"Subnet": "fd00::/64"}]}}) == set()


@pytest.mark.fault("B33")
def test_of_networks_with_one_name_ours_then_the_busiest_then_the_lowest_id_is_best() -> None:
    theirs = ObservedNetwork("a", "net", ours=False, attached=9)
    idle, busy, busy_too = (ObservedNetwork(i, "net", ours=True, attached=n) for i, n in (("b", 0), ("d", 2), ("c", 2)))
    assert decode.best_network([theirs, idle, busy, busy_too]) == busy_too
    assert decode.best_network([theirs]) == theirs
    assert decode.best_network([]) is None


def test_an_images_version_is_what_it_says_itself() -> None:
    answer = {"Id": "i", "Config": {"User": "101", "Env": ["PATH=/", "NGINX_VERSION=1.28.0"], "StopSignal": "SIGQUIT"}}
    found = decode.image(answer, "nginx:1.28", "nginx:1.28")
    assert (found.version, found.user, found.stop_signal) == ("1.28.0", "101", "SIGQUIT")
    assert decode.image({"Id": "i"}, "a", "b").is_substitute


@pytest.mark.fault("B9")
def test_a_pull_that_fails_says_so_under_status_200() -> None:
    assert decode.pull_failure({"errorDetail": {"message": "denied"}, "error": "denied"}) == "denied"
    assert decode.pull_failure({"status": "Pulling fs layer"}) is None


# ── requests ───────────────────────────────────────────────────────────────────────────────────────────────────────

SPEC = ContainerSpec(
    image="app:1",
    image_id="sha256:1",
    command=("serve", "--x"),
    environment=(("A", "1"), ("B", "two=2")),
    user="10001:10001",
    network="net",
    ports=(PublishedPort(8080, 80), PublishedPort(8443, 80, "127.0.0.1")),
    mounts=(
        Mount("bind", "/srv", "/data", read_only=True),
        Mount("volume", "logs", "/var/log"),
        Mount("tmpfs", "", "/x"),
    ),
    tmpfs=("/tmp", "/run:size=1m"),
    cap_add=("NET_BIND_SERVICE",),
    healthcheck=HealthCheck(test=("CMD", "true"), interval_s=5, timeout_s=0.5, retries=4, start_period_s=1),
    restart_policy="on-failure:5",
    stop_signal="SIGQUIT",
    stop_grace_period_s=7.2,
    memory_bytes=64 << 20,
    cpus=0.5,
    labels=(("mine", "1"), ("io.swiftdeploy.project", "liar")),
)


def request(spec: ContainerSpec = SPEC, address: str | None = "10.0.0.9") -> dict[str, Any]:
    labels = (("io.swiftdeploy.project", "shop"),)
    return decode.container_request(CreateContainer("name", spec, address, labels, ("api-blue",)), "n1")


def test_a_container_is_hardened_whatever_its_spec_says() -> None:
    for spec in (SPEC, ContainerSpec(image="a", image_id="sha256:1")):
        host = request(spec)["HostConfig"]
        assert host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["Privileged"] is False
        assert host["PidsLimit"] == 256
        assert host["ReadonlyRootfs"] is True
        assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
        assert "Binds" not in host


def test_every_field_of_a_spec_is_asked_for() -> None:
    made = request()
    host = made["HostConfig"]
    assert (made["Image"], made["Cmd"], made["User"]) == ("sha256:1", ["serve", "--x"], "10001:10001")
    assert (made["Env"], made["StopSignal"], made["StopTimeout"]) == (["A=1", "B=two=2"], "SIGQUIT", 8)
    assert made["Labels"] == {"mine": "1", "io.swiftdeploy.project": "shop"}
    assert made["ExposedPorts"] == {"80/tcp": {}}
    assert host["PortBindings"]["80/tcp"] == [
        {"HostIp": "", "HostPort": "8080"},
        {"HostIp": "127.0.0.1", "HostPort": "8443"},
    ]
    assert [mount["Type"] for mount in host["Mounts"]] == ["bind", "volume", "tmpfs"]
    assert host["Mounts"][0]["ReadOnly"] is True
    assert "Source" not in host["Mounts"][2]
    assert host["Tmpfs"] == {"/tmp": decode.TMPFS_OPTIONS, "/run": "size=1m"}
    assert (host["Memory"], host["NanoCpus"]) == (64 << 20, 500_000_000)
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 5}
    assert host["CapAdd"] == ["NET_BIND_SERVICE"]
    assert made["Healthcheck"] == {
        "Test": ["CMD", "true"],
        "Interval": 5_000_000_000,
        "Timeout": 500_000_000,
        "Retries": 4,
        "StartPeriod": 1_000_000_000,
    }
    endpoint = made["NetworkingConfig"]["EndpointsConfig"]["n1"]
    assert endpoint == {"NetworkID": "n1", "Aliases": ["api-blue"], "IPAMConfig": {"IPv4Address": "10.0.0.9"}}
    assert host["NetworkMode"] == "n1"


def test_what_a_spec_leaves_open_is_left_to_the_image() -> None:
    made = decode.container_request(CreateContainer("n", ContainerSpec("a", "sha256:1"), None, ()), None)
    assert not {"Cmd", "Entrypoint", "User", "WorkingDir", "Hostname", "StopSignal", "Healthcheck"} & made.keys()
    assert made["HostConfig"]["NetworkMode"] == "none"
    assert "NetworkingConfig" not in made


def test_a_check_that_is_only_ours_is_not_given_to_docker() -> None:
    assert "Healthcheck" not in request(dataclasses.replace(SPEC, healthcheck=HealthCheck(path="/healthz")))


def test_a_network_without_a_subnet_lets_the_engine_choose() -> None:
    assert decode.ipam_request(None, None) is None
    assert decode.ipam_request("10.0.0.0/22", None) == {"Driver": "default", "Config": [{"Subnet": "10.0.0.0/22"}]}


# ── refusals: the engine's words as they came, and what an operator reads ──────────────────────────────────────────

WORDS = [
    (
        "driver failed programming external connectivity on endpoint a (b): Bind for 0.0.0.0:8080 failed: "
        "port is already allocated",
        "Host port 8080 is taken. Free it, or choose another port in the manifest.",
    ),
    (
        "driver failed programming external connectivity on endpoint a (b): Error starting userland proxy: "
        "listen tcp4 0.0.0.0:80: bind: address already in use",
        "Host port 80 is taken. Free it, or choose another port in the manifest.",
    ),
    ("No such image: app:1", "The image app:1 is not here. It must be pulled or built first."),
    (
        'invalid mount config for type "bind": bind source path does not exist: /srv/x',
        "The directory /srv/x, which is to be mounted, does not exist. Create it.",
    ),
    (
        "OCI runtime create failed: container_linux.go:380: starting container process caused: exec: "
        '"serve": executable file not found in $PATH: unknown',
        "The image has no program serve. Check the command.",
    ),
    (
        "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: "
        'exec: "/no/such": stat /no/such: no such file or directory: unknown',
        "The image has no program /no/such. Check the command.",
    ),
    (
        "client version 1.99 is too new. Maximum supported API version is 1.41",
        "This engine does not speak API version 1.99. Update the older side.",
    ),
    ("network shop-net not found", "The network is gone: network shop-net not found."),
    ("Address already in use", "Another container holds the fixed address."),
    ("Pool overlaps with other one on this address space", "The subnet overlaps with another network of this host."),
    ("write /var/lib/docker/x: no space left on device", "The engine's disk is full."),
    ("unable to find user web: no matching entries in passwd file", "The image has no user web."),
    ("exec /bin/x: exec format error", "The image was built for another processor."),
    ("something\n  new", "The engine says: something new"),
]


@pytest.mark.fault("B16", "B36", "B38")
@pytest.mark.parametrize(("said", "read"), WORDS)
def test_a_refusal_is_one_clear_sentence(said: str, read: str) -> None:
    assert decode.meaning(said).startswith(read)


def test_a_long_refusal_is_shortened() -> None:
    assert len(decode.meaning("x" * 10_000)) < 400


@pytest.mark.fault("B7", "B17")
def test_the_holder_of_a_name_and_of_a_port_are_read_from_the_words() -> None:
    said = f'Conflict. The container name "/a" is already in use by container "{"ab" * 32}". You have to remove it.'
    assert decode.name_holder(said) == "ab" * 32
    assert decode.name_holder("Conflict.") is None
    assert decode.refused_port(WORDS[0][0]) == 8080
    assert decode.refused_port("nothing") is None


def test_a_removal_under_way_is_no_refusal() -> None:
    assert decode.is_going_away("removal of container ab is already in progress")
    assert decode.is_going_away("container is marked for removal and cannot be started")
    assert not decode.is_going_away("Conflict.")
