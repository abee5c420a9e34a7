"""K8: the last look at a request before it goes to the engine. Refusals first, then everything that we really send."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from reconciler.adapters.docker_decode import one_off_request
from reconciler.adapters.engine_guard import guarded, refusal
from reconciler.core.containers import KeptRevision, proxy_container, service_container
from reconciler.core.containers_policy import policy_container
from reconciler.core.desired import Mode, Mount
from reconciler.core.errors import EngineError
from tests.builders import IMAGES, desired, image, service
from tests.security.hardening import LAYOUT, request_of

pytestmark = pytest.mark.control("K8")


def ours() -> dict[str, Any]:
    mounts = (Mount("bind", "/srv/x", "/x"), Mount("volume", "data", "/data"))
    return request_of(
        service_container(KeptRevision("r", service(mounts=mounts), IMAGES["demo:1"], "web"), Mode.STABLE)
    )


def create(request: Any) -> str:
    return refusal("POST", "/v1.41/containers/create?name=shop-app", json.dumps(request))


OTHERS = (
    ("GET", "/containers/x/archive?path=/etc"),
    ("PUT", "/containers/x/archive?path=/"),
    ("GET", "/containers/x/export"),
    ("POST", "/build"),
    ("POST", "/commit"),
    ("POST", "/swarm/init"),
    ("POST", "/plugins/pull"),
    ("GET", "/secrets"),
    ("POST", "/containers/prune"),
    ("POST", "/system/prune"),
    ("POST", "/session"),
    ("DELETE", "/containers/../images/x"),
    ("DELETE", "/containers/x/../../volumes/y"),
    ("POST", "/containers//start"),
    ("POST", "/containers/x;y/start"),
    ("GET", "http://evil/containers/json"),
    ("PATCH", "/containers/x"),
    ("POST", "/containers/x/rename"),
    ("POST", "/auth"),
)


@pytest.mark.parametrize(("method", "path"), OTHERS)
def test_a_request_that_we_never_make_is_refused(method: str, path: str) -> None:
    assert refusal(method, path, b"{}")


SHAPES: tuple[tuple[str, Any], ...] = (
    ("HostConfig.Privileged", True),
    ("HostConfig.CapAdd", ["SYS_ADMIN"]),
    ("HostConfig.CapAdd", ["ALL"]),
    ("HostConfig.CapDrop", []),
    ("HostConfig.SecurityOpt", ["no-new-privileges:true", "seccomp=unconfined"]),
    ("HostConfig.SecurityOpt", []),
    ("HostConfig.NetworkMode", "host"),
    ("HostConfig.NetworkMode", "HOST"),
    ("HostConfig.NetworkMode", "container:opa"),
    ("HostConfig.PidMode", "host"),
    ("HostConfig.IpcMode", "host"),
    ("HostConfig.UTSMode", "host"),
    ("HostConfig.UsernsMode", "host"),
    ("HostConfig.Devices", [{"PathOnHost": "/dev/sda"}]),
    ("HostConfig.DeviceRequests", [{"Count": -1}]),
    ("HostConfig.DeviceCgroupRules", ["a *:* rwm"]),
    ("HostConfig.Binds", ["/:/host"]),
    ("HostConfig.VolumesFrom", ["opa"]),
    ("HostConfig.CgroupParent", "/"),
    ("HostConfig.Runtime", "evil"),
    ("HostConfig.Sysctls", {"net.ipv4.ip_forward": "1"}),
    ("HostConfig.OomScoreAdj", -1000),
    ("HostConfig.GroupAdd", ["docker"]),
    ("HostConfig.ExtraHosts", ["opa:127.0.0.1"]),
    ("HostConfig.privileged", True),
    ("HostConfig", None),
    ("Volumes", {"/": {}}),
    ("HostConfig.Mounts", [{"Type": "npipe", "Source": "/", "Target": "/h"}]),
    ("HostConfig.Mounts", [{"Type": "bind", "Source": "/", "Target": "/h", "BindOptions": {"Propagation": "rshared"}}]),
    ("HostConfig.Mounts", [{"Type": "volume", "Source": "v", "Target": "/h", "VolumeOptions": {"DriverConfig": {}}}]),
)


@pytest.mark.parametrize(("path", "value"), SHAPES)
def test_a_container_that_is_more_than_ours_is_refused(path: str, value: Any) -> None:
    request = copy.deepcopy(ours())
    *above, last = path.split(".")
    at = request
    for step in above:
        at = at[step]
    at[last] = value
    assert create(request)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"x",
        json.dumps(ours())[:-1] + ', "hostconfig": {"Privileged": true}}',
        json.dumps(ours()).replace('"Privileged": false', '"Privileged": false, "privileged": true'),
        json.dumps(ours()).replace('"Privileged": false', '"Privileged": true, "Privileged": false'),
        b"[" * 100_000,
        None,
    ],
)
def test_a_body_that_two_readers_would_read_differently_is_refused(body: Any) -> None:
    assert refusal("POST", "/containers/create", body)


def test_a_volume_that_is_a_folder_of_the_host_is_refused() -> None:
    wish = {"Name": "v", "Driver": "local", "DriverOpts": {"type": "none", "o": "bind", "device": "/"}}
    assert refusal("POST", "/volumes/create", json.dumps(wish))
    assert refusal("POST", "/volumes/create", json.dumps({"Name": "v", "Driver": "nfs"}))
    assert not refusal("POST", "/volumes/create", json.dumps({"Name": "v", "DriverOpts": None, "Labels": {}}))


def test_a_command_with_privileges_and_an_update_of_limits_are_refused() -> None:
    assert refusal("POST", "/containers/x/exec", json.dumps({"Cmd": ["id"], "Privileged": True}))
    assert refusal("POST", "/containers/x/update", json.dumps({"Devices": []}))
    assert not refusal("POST", "/containers/x/update", json.dumps({"RestartPolicy": {"Name": "no"}}))


def test_what_we_make_passes() -> None:
    assert create(ours()) == ""
    wanted, some = desired(), image("x")
    opa = policy_container(wanted, some, "r" * 64, rendered_dir="/r", run_dir="/run", uid="1:1")
    for spec in (proxy_container(wanted, some, LAYOUT), opa):
        assert create(request_of(spec)) == ""
    assert (
        create(one_off_request("sha256:1", ["nginx", "-t"], [Mount("bind", "/a", "/a", True)], ["/tmp"], "1:1", {}))
        == ""
    )
    for method, path in (("GET", "/v1.41/containers/json?all=1"), ("DELETE", "/networks/abc"), ("GET", "/_ping")):
        assert refusal(method, path, None) == ""


class Client:
    """As much of docker-py's client as is looked at: a session that sends."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, request: Any, **_options: Any) -> str:
        self.sent.append(request.path_url)
        return "sent"


class Asked:
    def __init__(self, method: str, path_url: str, body: Any = None) -> None:
        self.method, self.path_url, self.body = method, path_url, body


def test_a_refused_request_never_reaches_the_wire() -> None:
    client = Client()
    guarded(client)  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="was not sent"):
        client.send(Asked("POST", "/build"))
    assert client.sent == []
    assert client.send(Asked("GET", "/info")) == "sent"
