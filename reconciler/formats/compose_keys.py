"""Compose's other service keys: why each is refused or has no effect here, and what to do instead.

Refused is what reaches for the host, and what a service would miss if it were dropped. Written as "off"
(`privileged: false`, an empty list) it is dropped with a warning.
"""

from __future__ import annotations

from reconciler.formats.findings import Findings
from reconciler.formats.yaml_strict import Node

_HOST = "it would give the container power over the host"
_NETWORK = "every container here is on the one network, by its own address"

REFUSED: dict[str, str] = {
    "build": "images are not built here. Build it (docker build -t NAME .) and write NAME under image",
    "cgroup": f"{_HOST}. Remove it; limits go under deploy.resources.limits",
    "cgroup_parent": f"{_HOST}. Remove it; limits go under deploy.resources.limits",
    "configs": "configs are not supported. Mount a folder: volumes: [./config:/etc/app:ro]",
    "credential_spec": "it is for Windows containers. Remove it",
    "device_cgroup_rules": f"{_HOST}. Remove it",
    "devices": f"devices belong to the host: {_HOST}. Remove it",
    "dns": "names are found through Docker's own DNS. Set servers for the whole host in Docker's daemon.json",
    "dns_opt": "containers find each other through Docker's own DNS. Remove it",
    "dns_search": "containers find each other through Docker's own DNS. Remove it",
    "extends": "a manifest is one file. Write the keys out",
    "external_links": f"{_NETWORK}. Remove it",
    "extra_hosts": "it would let a name point anywhere, the host included. Use a name that DNS knows",
    "gpus": f"devices belong to the host: {_HOST}. Remove it",
    "group_add": 'extra groups open files of other users. Write user: "UID:GID"',
    "ipc": f"host or shared memory would be opened to it: {_HOST}. Remove it",
    "isolation": "it is for Windows containers. Remove it",
    "label_file": "write the labels under labels",
    "links": f"{_NETWORK}. Remove it",
    "mac_address": "addresses are given by SwiftDeploy. Remove it",
    "network_mode": "host or another container's network would bypass nginx. Remove it",
    "oom_kill_disable": f"{_HOST}. Set deploy.resources.limits.memory",
    "oom_score_adj": f"{_HOST}. Remove it",
    "pid": f"the host's processes would be open to it: {_HOST}. Remove it",
    "platform": "the image is run as the host's platform. Write an image of that platform",
    "ports": "a service's port is never published. Write the container's under port, the host's under nginx.port",
    "post_start": "hooks are not supported. Do it in the image's entrypoint",
    "pre_stop": "hooks are not supported. Handle stop_signal in the service",
    "privileged": f"{_HOST}. Remove it; cap_add has the harmless capabilities",
    "provider": "services run by something else than containers are not supported. Remove it",
    "runtime": f"another runtime means other walls around the container: {_HOST}. Remove it",
    "security_opt": "no-new-privileges is always on and the default profiles stay. Remove it",
    "shm_size": "shared memory has Docker's default size. Mount a tmpfs: tmpfs: [/dev/shm:size=64m]",
    "storage_opt": "it depends on the host's storage driver. Remove it",
    "sysctls": "kernel settings reach beyond the container. Set them on the host",
    "ulimits": "Docker's defaults apply. Set them for the whole host in Docker's daemon.json",
    "use_api_socket": f"the engine's socket is the host: {_HOST}. Remove it",
    "userns_mode": f"{_HOST}. Remove it",
    "uts": f"the host's name would be open to it: {_HOST}. Use hostname",
    "volume_driver": "only local volumes are supported. Remove it",
    "volumes_from": "write the mounts of the other container under volumes",
}

IGNORED: dict[str, str] = {
    "annotations": "nothing here reads annotations",
    "attach": "logs are read with docker compose logs",
    "blkio_config": "only cpus, memory and pids are limited",
    "cpu_count": "write deploy.resources.limits.cpus",
    "cpu_percent": "write deploy.resources.limits.cpus",
    "cpu_period": "write deploy.resources.limits.cpus",
    "cpu_quota": "write deploy.resources.limits.cpus",
    "cpu_rt_period": "write deploy.resources.limits.cpus",
    "cpu_rt_runtime": "write deploy.resources.limits.cpus",
    "cpu_shares": "write deploy.resources.limits.cpus",
    "cpuset": "write deploy.resources.limits.cpus",
    "develop": "it is for docker compose watch",
    "domainname": "write the whole name under hostname",
    "driver_opts": "nothing here reads it",
    "expose": "port says it all",
    "logging": "logs are kept as three files of 10 MB",
    "mem_reservation": "write deploy.resources.limits.memory",
    "mem_swappiness": "write deploy.resources.limits.memory",
    "memswap_limit": "write deploy.resources.limits.memory",
    "models": "nothing here reads it",
    "networks": "every service is on the one network, network.name",
    "profiles": "what is in the manifest runs",
    "pull_policy": "an image that is not on the host is pulled",
    "stdin_open": "services have no terminal",
    "tty": "services have no terminal",
}

IGNORED_BELOW: dict[str, str] = {
    "deploy.endpoint_mode": "nginx is the one way in",
    "deploy.labels": "write labels at the service",
    "deploy.mode": "write deploy.replicas",
    "deploy.placement": "there is one host",
    "deploy.resources.reservations": "nothing is reserved on one host: write limits",
    "deploy.rollback_config": "rollout says how",
    "deploy.update_config": "rollout says how",
    "healthcheck.start_interval": "checks come every interval",
}

_ALWAYS_ON = frozenset({"no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"})


def check_volumes(root: Node, findings: Findings) -> None:
    """A named volume's driver options can mount any part of the host under its name."""
    volumes = root.at("volumes")
    for volume in volumes.mapping.values() if volumes is not None else ():
        node = volume.mapping.pop("driver_opts", None)
        if node is not None and not _is_off("driver_opts", node):
            findings.problem(node, f"{node.path} is refused: it could mount any folder of the host. Remove it.")


def check(service: Node, findings: Findings) -> None:
    """Take these keys out of `service` and say why."""
    for key in [key for key in service.mapping if key in REFUSED or key in IGNORED]:
        node = service.mapping.pop(key)
        name = f"{service.path}.{key}"
        if key in IGNORED:
            findings.warning(node, f"{name} has no effect: {IGNORED[key]}.")
        elif _is_off(key, node):
            findings.warning(node, f"{name} has no effect: it is so already.")
        else:
            findings.problem(node, f"{name} is refused: {REFUSED[key]}.")
    for path, why in IGNORED_BELOW.items():
        *above, last = path.split(".")
        parent = service.at(*above)
        below = parent.mapping.pop(last, None) if parent is not None else None
        if below is not None:
            findings.warning(below, f"{below.path} has no effect: {why}.")


def _is_off(key: str, node: Node) -> bool:
    """It asks for nothing, or for what is so anyway."""
    if key == "security_opt":
        return isinstance(node.value, list) and all(_is_always_on(item.value) for item in node.items)
    return node.value in (None, False, [], {}, "")


def _is_always_on(option: object) -> bool:
    return isinstance(option, str) and option in _ALWAYS_ON
