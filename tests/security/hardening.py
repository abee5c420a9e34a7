"""What every container of ours is, whatever a manifest says: the list of what may stand in the engine's request.

Written from `docs/security.md`, not from the code that makes the request: what is not listed here is refused.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from reconciler.adapters.docker_decode import container_request
from reconciler.core.container import ContainerSpec
from reconciler.core.containers import KeptRevision, Layout, proxy_container, service_container
from reconciler.core.containers_policy import policy_container
from reconciler.core.desired import DesiredState, Mode
from reconciler.core.observed import ObservedImage
from reconciler.core.plan import CreateContainer

HARMLESS = frozenset({"CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"})
TOP = frozenset(
    {"Image", "Env", "Labels", "ExposedPorts", "StopTimeout", "HostConfig", "Cmd", "Entrypoint", "User", "WorkingDir"}
    | {"Hostname", "StopSignal", "Healthcheck", "NetworkingConfig"}
)
HOST = frozenset(
    {"CapDrop", "CapAdd", "SecurityOpt", "Privileged", "ReadonlyRootfs", "PidsLimit", "Mounts", "Tmpfs", "LogConfig"}
    | {"RestartPolicy", "NetworkMode", "PortBindings", "Init", "Memory", "NanoCpus"}
)
NETWORK_ID = "n" * 64
LAYOUT = Layout("/state/rendered", "/state/run", "65534:65534")
_INSIDE = re.compile(
    r"(?:/state/(?:rendered|run)|\./?)(?:/(?!\.\.?(?:/|$))[A-Za-z0-9._@+=,-]+)*|/?(?:[A-Za-z0-9._@+=,-]+)"
)


def check(desired: DesiredState, allowed: frozenset[str] = frozenset()) -> None:
    """Fails where a container of `desired` would be more than a hardened one; `allowed` are host paths."""
    image = ObservedImage("i", "sha256:1", "i", user="root")
    for service in desired.services:
        for mode in Mode:
            spec = service_container(KeptRevision("r", service, image, "net"), mode)
            refuse(request_of(spec), allowed, loosened=not service.read_only)
    refuse(request_of(proxy_container(desired, image, LAYOUT)), allowed, publishes={desired.nginx.port})
    opa = policy_container(desired, image, "r" * 64, rendered_dir="/state/rendered", run_dir="/state/run", uid="1:1")
    refuse(request_of(opa), allowed)
    assert opa.network is None, "OPA has a network"


def request_of(spec: ContainerSpec) -> dict[str, Any]:
    labels = (("io.swiftdeploy.project", "shop"), ("io.swiftdeploy.instance", "i1"))
    action = CreateContainer(**{**_blank(), "name": "shop-app", "spec": spec, "labels": labels})
    return container_request(action, None if spec.network is None else NETWORK_ID)


def _blank() -> dict[str, Any]:
    """Something for every field that an action must have."""
    fields = dataclasses.fields(CreateContainer)
    needs = [each for each in fields if each.default is dataclasses.MISSING]
    return {each.name: () if "tuple" in str(each.type) else "" for each in needs}


def refuse(
    request: dict[str, Any],
    allowed: frozenset[str] = frozenset(),
    publishes: frozenset[int] | set[int] = frozenset(),
    loosened: bool = False,
) -> None:
    """AssertionError where the engine would be asked for something that no manifest may have."""
    host = request["HostConfig"]
    assert set(request) <= TOP, f"asks for {set(request) - TOP}"
    assert set(host) <= HOST, f"asks for {set(host) - HOST}"
    assert host["CapDrop"] == ["ALL"]
    assert set(host["CapAdd"] or ()) <= HARMLESS, f"capabilities {host['CapAdd']}"
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Privileged"] is False
    assert host["ReadonlyRootfs"] is True or loosened, "can write to its image"
    assert isinstance(host["PidsLimit"], int), "any number of processes"
    assert 0 < host["PidsLimit"] <= 2**22, "any number of processes"
    assert host["NetworkMode"] in (NETWORK_ID, "none"), f"network {host['NetworkMode']}"
    assert host["LogConfig"]["Type"] == "json-file"
    assert set(host["LogConfig"]["Config"]) == {"max-size", "max-file"}, "logs without end"
    ports = {int(binding["HostPort"]) for bound in host["PortBindings"].values() for binding in bound}
    assert ports <= set(publishes), f"publishes {ports}"
    for mount in host["Mounts"]:
        _refuse_mount(mount, allowed)
    labels = request["Labels"]
    assert labels["io.swiftdeploy.project"] == "shop", "poses as another project's"
    assert labels["io.swiftdeploy.instance"] == "i1", "poses as another instance's"


def _refuse_mount(mount: dict[str, Any], allowed: frozenset[str]) -> None:
    assert mount["Type"] in ("bind", "volume", "tmpfs")
    assert mount["Target"].startswith("/"), "mounts where it likes"
    assert ".." not in mount["Target"].split("/")
    if mount["Type"] == "tmpfs":
        return
    source = mount["Source"]
    assert source in allowed or _INSIDE.fullmatch(source), f"mounts {source}"
    if mount["Type"] == "bind":
        assert not source.endswith("docker.sock") or source in allowed, "the engine's socket"
        assert source.startswith(("/state/", ".")) or source in allowed, f"binds {source}"
        assert set(mount.get("BindOptions", {})) <= {"Propagation"}
        assert mount["BindOptions"]["Propagation"] == "rprivate"
