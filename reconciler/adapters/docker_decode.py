"""Our values in the engine's JSON and back: pure, so that every odd answer can be a test.

Nothing here trusts an answer's shape: a missing or mistyped field reads as absent, a state we have not heard of
as `Status.UNKNOWN`. An answer without an ID is no answer at all, and is an `EngineError`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reconciler.core.container import LABEL, ContainerSpec
from reconciler.core.desired import HealthCheck, Mount
from reconciler.core.errors import EngineError
from reconciler.core.observed import ObservedContainer, ObservedImage, ObservedNetwork, Slot, Status
from reconciler.core.plan import CreateContainer

Answer = Mapping[str, Any]

PROJECT = f"{LABEL}project"
INSTANCE = f"{LABEL}instance"
SLOT = f"{LABEL}slot"
COMMIT = f"{LABEL}commit"
TMPFS_OPTIONS = "rw,nosuid,nodev,size=64m,mode=1777"
MAX_WORDS = 300
_WORDS_READ = 4096
"""Some patterns take the square of the length: of more than this, only the beginning is read."""

_ANONYMOUS = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"[0-9]{1,9}")


# ── what we ask for ────────────────────────────────────────────────────────────────────────────────────────────────


def container_request(action: CreateContainer, network_id: str | None) -> dict[str, Any]:
    """The body of `POST /containers/create`. `network_id` None is no network at all."""
    spec = action.spec
    request: dict[str, Any] = {
        "Image": spec.image_id,
        "Env": [f"{name}={value}" for name, value in spec.environment],
        "Labels": all_labels(action),
        "ExposedPorts": {f"{port.container_port}/tcp": {} for port in spec.ports},
        "StopTimeout": math.ceil(spec.stop_grace_period_s),
        "HostConfig": _host_config(spec, network_id),
    }
    optional = {
        "Cmd": _as_list(spec.command),
        "Entrypoint": _as_list(spec.entrypoint),
        "User": spec.user,
        "WorkingDir": spec.working_dir,
        "Hostname": spec.hostname,
        "StopSignal": spec.stop_signal,
        "Healthcheck": _healthcheck(spec.healthcheck),
    }
    request.update({key: value for key, value in optional.items() if value is not None})
    if network_id is not None:
        endpoint = _endpoint(network_id, action.address, action.aliases)
        request["NetworkingConfig"] = {"EndpointsConfig": {network_id: endpoint}}
    return request


def all_labels(action: CreateContainer) -> dict[str, str]:
    """Every label of the container; identity wins over what a service calls itself."""
    return {**dict(action.spec.labels), **dict(action.labels)}


def _endpoint(network_id: str, address: str | None, aliases: Sequence[str]) -> dict[str, Any]:
    """How a container is attached: at its fixed address where it has one, under its names.

    Without `NetworkID` the engine looks the network up by name at each start, and refuses where two have that name.
    """
    endpoint: dict[str, Any] = {"NetworkID": network_id, "Aliases": list(aliases)}
    if address is not None:
        endpoint["IPAMConfig"] = {"IPv4Address": address}
    return endpoint


def _host_config(spec: ContainerSpec, network_id: str | None) -> dict[str, Any]:
    config: dict[str, Any] = {
        "CapDrop": ["ALL"],
        "CapAdd": list(spec.cap_add) or None,
        "SecurityOpt": ["no-new-privileges:true"],
        "Privileged": False,
        "ReadonlyRootfs": spec.read_only,
        "PidsLimit": spec.pids,
        "Mounts": [_mount(mount) for mount in spec.mounts],
        "Tmpfs": dict(_tmpfs(entry) for entry in spec.tmpfs),
        "LogConfig": {
            "Type": "json-file",
            "Config": {"max-size": spec.log_max_size, "max-file": str(spec.log_max_files)},
        },
        "RestartPolicy": restart_policy_request(spec.restart_policy),
        "NetworkMode": network_id if network_id is not None else "none",
        "PortBindings": _port_bindings(spec),
        "Init": spec.init,
    }
    if spec.memory_bytes is not None:
        config["Memory"] = spec.memory_bytes
    if spec.cpus is not None:
        config["NanoCpus"] = round(spec.cpus * 1_000_000_000)
    return config


def one_off_request(
    image_id: str,
    command: Sequence[str],
    mounts: Sequence[Mount],
    tmpfs: Sequence[str],
    user: str,
    labels: Mapping[str, str],
) -> dict[str, Any]:
    """The body for a container that runs one command, without a network, as hardened as the others."""
    spec = ContainerSpec(image="", image_id=image_id, mounts=tuple(mounts), tmpfs=tuple(tmpfs), restart_policy="no")
    host = _host_config(spec, None)
    what = {"Image": image_id, "Entrypoint": list(command), "Cmd": [], "User": user}
    return {**what, "Labels": dict(labels), "HostConfig": host}


def _port_bindings(spec: ContainerSpec) -> dict[str, list[dict[str, str]]]:
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in spec.ports:
        binding = {"HostIp": port.host_ip, "HostPort": str(port.host_port)}
        bindings.setdefault(f"{port.container_port}/tcp", []).append(binding)
    return bindings


def _mount(mount: Mount) -> dict[str, Any]:
    """In the form that refuses a missing source; the older `Binds` would create a directory in its place."""
    request: dict[str, Any] = {"Type": mount.kind, "Target": mount.target, "ReadOnly": mount.read_only}
    if mount.kind != "tmpfs":
        request["Source"] = mount.source
    if mount.kind == "bind":
        request["BindOptions"] = {"Propagation": "rprivate"}
    return request


def _tmpfs(entry: str) -> tuple[str, str]:
    path, _, options = entry.partition(":")
    return path, options or TMPFS_OPTIONS


def restart_policy_request(policy: str) -> dict[str, Any]:
    name, _, count = policy.partition(":")
    return {"Name": name, "MaximumRetryCount": int(count)} if count else {"Name": name}


def _healthcheck(check: HealthCheck | None) -> dict[str, Any] | None:
    """Only a check that Docker is to run itself; without one the image's own stays."""
    if check is None or check.test is None:
        return None
    return {
        "Test": list(check.test),
        "Interval": _nanoseconds(check.interval_s),
        "Timeout": _nanoseconds(check.timeout_s),
        "Retries": check.retries,
        "StartPeriod": _nanoseconds(check.start_period_s),
    }


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1_000_000_000)


def _as_list(words: Sequence[str] | None) -> list[str] | None:
    return None if words is None else list(words)


def ipam_request(subnet: str | None, ip_range: str | None) -> dict[str, Any] | None:
    """The `IPAM` of a network: None lets the engine choose, and then it refuses fixed addresses."""
    if subnet is None:
        return None
    return {"Driver": "default", "Config": [{"Subnet": subnet, **({"IPRange": ip_range} if ip_range else {})}]}


# ── what it answers ────────────────────────────────────────────────────────────────────────────────────────────────


def table(value: object) -> Answer:
    """`value` where it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def text(value: object) -> str:
    """`value` where it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def whole(value: object) -> int:
    """`value` where it is a whole number, else 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def rows(value: object) -> list[Answer]:
    """The objects in `value` where it is a list."""
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def identifier(answer: object) -> str:
    """The ID in an answer. Raises EngineError where there is none."""
    found = text(table(answer).get("Id"))
    if not found:
        raise EngineError("The engine's answer has no ID in it. Is this a Docker Engine?", retryable=True)
    return found


def labels_of(inspected: Answer) -> Answer:
    """A container's labels, from an inspection or from a list."""
    return table(table(inspected.get("Config")).get("Labels") or inspected.get("Labels"))


def is_ours(labels: Answer, project: str, instance: str) -> bool:
    """It carries our project and our instance: nothing else may be stopped or removed by us."""
    return bool(project) and labels.get(PROJECT) == project and labels.get(INSTANCE) == instance


def may_be_ours(labels: Answer, project: str, instance: str) -> bool:
    """The same for networks and volumes, which need not say whose instance they belong to."""
    return is_ours({INSTANCE: instance, **labels}, project, instance)


def container(
    inspected: Answer, *, project: str, instance: str, network: str, network_ids: Mapping[str, str]
) -> ObservedContainer:
    """One container. `network_ids` maps names to IDs: a container that never ran knows its networks by name only."""
    state, labels = table(inspected.get("State")), labels_of(inspected)
    status = status_of(state.get("Status"))
    error = text(state.get("Error"))
    endpoints = endpoints_of(inspected, network_ids)
    never_ran = status is Status.CREATED and not error
    return ObservedContainer(
        id=identifier(inspected),
        name=text(inspected.get("Name")).lstrip("/"),
        service=text(labels.get(f"{LABEL}service")),
        revision=text(labels.get(f"{LABEL}revision")),
        status=status,
        slot=_slot(labels.get(SLOT)),
        replica=_label_number(labels, "replica"),
        mode=text(labels.get(f"{LABEL}mode")) or "stable",
        generation=_label_number(labels, "generation") or 0,
        ours=is_ours(labels, project, instance),
        image_id=text(inspected.get("Image")),
        address=_address_in(endpoints, network_ids.get(network, network)),
        networks=tuple(endpoints),
        pid=whole(state.get("Pid")),
        exit_code=None if status is Status.RUNNING or never_ran else whole(state.get("ExitCode")),
        oom_killed=state.get("OOMKilled") is True,
        error=error,
        restarts=whole(inspected.get("RestartCount")),
        started_at=_moment(state.get("StartedAt")),
        finished_at=_moment(state.get("FinishedAt")),
        restart_policy=_restart_policy(inspected),
        docker_health=_docker_health(state),
        ports=tuple(sorted(bound_ports(inspected))),
    )


def status_of(word: object) -> Status:
    """Docker's word, or UNKNOWN."""
    return Status(word) if isinstance(word, str) and word in Status._value2member_map_ else Status.UNKNOWN


def endpoints_of(inspected: Answer, network_ids: Mapping[str, str]) -> dict[str, str | None]:
    """The address a container has (or will get) in each network, by the network's ID; None is none yet."""
    found: dict[str, str | None] = {}
    for name, endpoint in table(table(inspected.get("NetworkSettings")).get("Networks")).items():
        settings = table(endpoint)
        network = text(settings.get("NetworkID")) or network_ids.get(name, name)
        fixed = text(table(settings.get("IPAMConfig")).get("IPv4Address"))
        found[network] = fixed or text(settings.get("IPAddress")) or None
    return found


def _address_in(endpoints: Mapping[str, str | None], network_id: str) -> str | None:
    if network_id in endpoints:
        return endpoints[network_id]
    return next((address for address in endpoints.values() if address), None)


def _slot(value: object) -> Slot | None:
    return Slot(value) if isinstance(value, str) and value in Slot._value2member_map_ else None


def _label_number(labels: Answer, key: str) -> int | None:
    value = text(labels.get(f"{LABEL}{key}"))
    return int(value) if _NUMBER.fullmatch(value) else None


def _moment(value: object) -> str:
    """Docker writes the year 1 for "never"."""
    return "" if text(value).startswith("0001-") else text(value)


def _restart_policy(inspected: Answer) -> str:
    """Compose's words for it; Docker writes "" and "no" for none."""
    policy = table(table(inspected.get("HostConfig")).get("RestartPolicy"))
    name, count = text(policy.get("Name")) or "no", whole(policy.get("MaximumRetryCount"))
    return f"{name}:{count}" if count else name


def _docker_health(state: Answer) -> str | None:
    word = text(table(state.get("Health")).get("Status"))
    return word if word not in ("", "none") else None


def network(inspected: Answer, project: str) -> ObservedNetwork:
    """One network, from its inspection (a list does not count who is attached)."""
    config = next(iter(rows(table(inspected.get("IPAM")).get("Config"))), {})
    return ObservedNetwork(
        id=identifier(inspected),
        name=text(inspected.get("Name")),
        ours=table(inspected.get("Labels")).get(PROJECT) == project,
        subnet=text(config.get("Subnet")) or None,
        ip_range=text(config.get("IPRange")) or None,
        attached=len(table(inspected.get("Containers"))),
        driver=text(inspected.get("Driver")) or "bridge",
    )


def addresses_in(inspected_network: Answer) -> set[str]:
    """What running containers and the gateway hold in a network."""
    attached = table(inspected_network.get("Containers")).values()
    held = {text(table(endpoint).get("IPv4Address")) for endpoint in attached}
    held |= {text(config.get("Gateway")) for config in rows(table(inspected_network.get("IPAM")).get("Config"))}
    return {address.partition("/")[0] for address in held if address}


def subnets(listed_network: Answer) -> set[str]:
    """The IPv4 subnets of a network, from a list or an inspection."""
    found = {text(config.get("Subnet")) for config in rows(table(listed_network.get("IPAM")).get("Config"))}
    return {subnet for subnet in found if "." in subnet}


def image(inspected: Answer, reference: str, used: str) -> ObservedImage:
    """An image that is here, under the reference it was asked for."""
    config = table(inspected.get("Config"))
    return ObservedImage(
        reference=reference,
        id=identifier(inspected),
        used=used,
        user=text(config.get("User")),
        stop_signal=text(config.get("StopSignal")) or None,
        size_bytes=whole(inspected.get("Size")),
        version=_variable(config, "NGINX_VERSION"),
    )


def _variable(config: Answer, name: str) -> str:
    variables = config.get("Env")
    pairs = (text(one).partition("=") for one in variables) if isinstance(variables, list) else ()
    return next((value for key, _, value in pairs if key == name), "")


def mounted_volumes(inspected: Answer) -> set[str]:
    """The named volumes that a container mounts, also those of others."""
    named = (mount for mount in rows(inspected.get("Mounts")) if mount.get("Type") == "volume")
    return {name for mount in named if (name := text(mount.get("Name"))) and not _ANONYMOUS.fullmatch(name)}


def bound_paths(inspected: Answer) -> list[str]:
    """The paths of the host that a container mounts, as they were asked for."""
    mounts = rows(table(inspected.get("HostConfig")).get("Mounts"))
    return [text(mount.get("Source")) for mount in mounts if mount.get("Type") == "bind"]


def bound_ports(inspected: Answer) -> set[int]:
    """Host ports that a container holds now (a container that does not run holds none)."""
    if not table(inspected.get("State")).get("Running"):
        return set()
    found = set()
    for bindings in table(table(inspected.get("HostConfig")).get("PortBindings")).values():
        found |= {int(port) for binding in rows(bindings) if _NUMBER.fullmatch(port := text(binding.get("HostPort")))}
    return found


def listed_ports(listed: Answer) -> set[int]:
    """Host ports of a container in a list."""
    return {whole(port.get("PublicPort")) for port in rows(listed.get("Ports"))} - {0}


def listed_name(listed: Answer) -> str:
    """How to name somebody else's container to an operator."""
    names = listed.get("Names")
    name = text(names[0]).lstrip("/") if isinstance(names, list) and names else ""
    return f"container {name or text(listed.get('Id'))[:12]} ({text(listed.get('Image')) or 'unknown image'})"


def pull_failure(event: Answer) -> str | None:
    """The error inside a pull's stream, which comes under status 200."""
    return text(event.get("error")) or text(table(event.get("errorDetail")).get("message")) or None


def layers_done(layers: Mapping[str, str]) -> str:
    """A pull's progress in words, from the last status of each layer."""
    done = sum(status in ("Pull complete", "Already exists") for status in layers.values())
    return f"{done} of {len(layers)} layers" if layers else "asking the registry"


# ── what its refusals mean ─────────────────────────────────────────────────────────────────────────────────────────

_PORT = re.compile(
    r"(?:Bind for|listen tcp[46]?) \S*?:([0-9]{1,5})(?: failed)?: (?:port is already|bind: address already)"
)
_HOLDER = re.compile(r'already in use by container "?([0-9a-f]{12,64})"?')

# First match wins; \1 is the first group.
_MEANINGS: tuple[tuple[str, str], ...] = (
    (_PORT.pattern, r"Host port \1 is taken. Free it, or choose another port in the manifest."),
    (r"client version (\S+) is too (?:new|old)", r"This engine does not speak API version \1. Update the older side."),
    (r"No such image: (\S+)", r"The image \1 is not here. It must be pulled or built first."),
    (r"bind source path does not exist: (.+)", r"The directory \1, which is to be mounted, does not exist. Create it."),
    (r"no space left on device", "The engine's disk is full. Free space (`docker system df` shows what holds it)."),
    (
        r'exec: \\?"([^"\\]+)\\?": (?:executable file not found|stat )',
        r"The image has no program \1. Check the command.",
    ),
    (r'exec: \\?"([^"\\]+)\\?": permission denied', r"The program \1 in the image is not executable."),
    (r"exec format error", "The image was built for another processor. Use one for this machine's architecture."),
    (
        r'starting container process caused: .*?"([^"]+)".*no such file',
        r"The image has no program \1. Check the command.",
    ),
    (r"[Nn]etwork (\S+) (?:is ambiguous|not found)|network (\S+) .*could not be found", r"The network is gone: \g<0>."),
    (r"[Aa]ddress already in use", "Another container holds the fixed address."),
    (r"[Pp]ool overlaps", "The subnet overlaps with another network of this host. Another one is needed."),
    (r"non-overlapping IPv4 address pool", "The engine has no free subnet left. Remove unused networks."),
    (r"no available IPv4 addresses", "The network has no free address left."),
    (r"unable to find user (\S+?):", r"The image has no user \1. Name a number, or a user of the image."),
    (r"[Mm]inimum memory limit", "The memory limit is too small for a container. Raise resources.memory."),
)


def meaning(words: str) -> str:
    """The engine's refusal as a sentence for an operator; its own words, shortened, where we know no better."""
    flat = " ".join(words[:_WORDS_READ].split())
    for pattern, sentence in _MEANINGS:
        found = re.search(pattern, flat)
        if found is not None:
            return found.expand(sentence)
    return f"The engine says: {flat[:MAX_WORDS]}{'…' if len(flat) > MAX_WORDS else ''}"


def refused_port(words: str) -> int | None:
    """The host port that a start failed for, or None."""
    found = _PORT.search(words)
    return int(found[1]) if found else None


def name_holder(words: str) -> str | None:
    """The ID of the container that has a name we wanted, or None."""
    found = _HOLDER.search(words)
    return found[1] if found else None


def is_going_away(words: str) -> bool:
    """Somebody is removing the thing at this moment."""
    return "already in progress" in words or "marked for removal" in words


def preference(found: ObservedNetwork) -> tuple[bool, int, str]:
    """Sorts networks of one name: ours before others, then the most attached, then the lowest ID."""
    return not found.ours, -found.attached, found.id


def best_network(found: Iterable[ObservedNetwork]) -> ObservedNetwork | None:
    """The one to use of several with the same name, or None."""
    return min(found, key=preference, default=None)
