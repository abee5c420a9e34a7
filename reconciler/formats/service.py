"""One service of the manifest, from its checked tree to the value the core works with."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reconciler.core.decide import course_of
from reconciler.core.desired import Mode, Resources, Service
from reconciler.formats import env_file, tester
from reconciler.formats.exposition import uncounted_paths
from reconciler.formats.findings import Findings, shown, shown_text
from reconciler.formats.mounts import Surroundings, check_targets, read_mounts, read_tmpfs
from reconciler.formats.quantities import duration, size
from reconciler.formats.traffic import read_healthcheck, read_metrics, read_rollout, read_route
from reconciler.formats.yaml_strict import Node

MOST_ENVIRONMENT = 128 * 1024
OURS = ("MODE", "APP_VERSION", "APP_PORT")
OUR_LABELS = ("io.swiftdeploy.", "com.docker.compose.")


@dataclass(frozen=True, slots=True)
class Context:
    """What a service is read in: where findings go, environment files, and what mounts are judged by.

    `secrets` gives a secret's file by its name; None where secrets are not looked up.
    """

    findings: Findings
    around: Surroundings
    env_files: Callable[[str], str | None]
    secrets: Callable[[str], tester.SecretFile] | None = None


def read_service(name: str, node: Node, context: Context) -> Service:
    """The service; whatever is wrong is in the findings, and the value is then not to be used."""
    findings = context.findings
    given: dict[str, Any] = {}
    for key in ("version", "restart_policy", "read_only", "init", "stop_signal", "working_dir", "hostname", "chaos"):
        if (value := node.at(key)) is not None:
            given[key] = value.value
    for key in ("command", "entrypoint"):
        if (value := node.at(key)) is not None:
            given[key] = _words(value, findings)
    if (mode := node.at("mode")) is not None:
        given["mode"] = Mode(str(mode.value))
    if (user := node.at("user")) is not None:
        given["user"] = _user(user, findings)
    if (grace := node.at("stop_grace_period")) is not None:
        given["stop_grace_period_s"] = duration(grace, findings, least=0.0)
    if (secret := node.at("tester_secret")) is not None:
        given["tester_secret"] = secret.value
        given["tester_digest"] = _tester_digest(name, secret, context)
    if (replicas := node.at("deploy", "replicas")) is not None:
        given["replicas"] = replicas.value
    port = _port(node)
    route = read_route(node)
    given |= _mounts(node, context)
    service = Service(
        name=name,
        image=_text(node, "image"),
        port=port,
        route=route,
        environment=_environment(node, context),
        labels=_labels(node.at("labels"), findings),
        log_volume=_text(node, "log_volume") or f"{context.around.project}-logs",
        healthcheck=read_healthcheck(node, port, findings),
        resources=_resources(node, findings),
        cap_add=tuple(sorted({str(item.value) for item in _items(node.at("cap_add"))})),
        rollout=read_rollout(node, route, findings),
        metrics=read_metrics(node, findings),
        **given,
    )
    _check(service, node, findings)
    return service


def _tester_digest(service: str, node: Node, context: Context) -> str | None:
    scheme, _, name = str(node.value).partition(":")
    if context.secrets is None or scheme != "file":
        return None
    found = context.secrets(name)
    secret = tester.secret_of(found.text)
    trouble = found.trouble or tester.complaint(secret)
    if not trouble:
        return tester.digest(service, secret)
    path = f"{tester.FOLDER}/{name}"
    remedy = found.remedy or f"(umask 077; {tester.HOW_TO_MAKE} > {path})"
    context.findings.problem(node, f"{node.path}: {path} {trouble}. `{remedy}`, or remove the line.")
    return None


def _items(node: Node | None) -> list[Node]:
    return node.items if node is not None else []


def _text(node: Node, key: str) -> str:
    found = node.at(key)
    return str(found.value) if found is not None else ""


def _port(node: Node) -> int | None:
    port = node.at("port")
    return port.value if port is not None and isinstance(port.value, int) else None


# --- what runs


def _words(node: Node, findings: Findings) -> tuple[str, ...]:
    if node.items:
        return tuple(item.text for item in node.items)
    try:
        words = tuple(shlex.split(str(node.value)))
    except ValueError as error:
        findings.problem(node, f"{node.path} is {shown(node.value)}: {str(error).lower()}. Close it, or write a list.")
        return ()
    if not words:
        findings.problem(node, f"{node.path} is empty. Use a command line, or remove the line.")
    return words


def _user(node: Node, findings: Findings) -> str:
    text = node.text
    if text.split(":")[0] in ("0", "root"):
        findings.warning(node, f"{node.path} is {text}: the service runs as root in its container.")
    return text


def _environment(node: Node, context: Context) -> tuple[tuple[str, str], ...]:
    findings = context.findings
    values: dict[str, str] = {}
    for item in _list_or_one(node.at("env_file")):
        values |= _from_file(item, context)
    declared = node.at("environment")
    for name, value in _pairs(declared, findings):
        values[name] = value
        if "${" in value and declared is not None:
            findings.warning(declared, f"{declared.path}.{name} is kept as written: nothing is put in for ${{…}}.")
    for name in OURS:
        if name in values:
            del values[name]
            findings.problem(declared or node, f"{name} is set by SwiftDeploy. Remove it from the environment file.")
    if sum(len(name) + len(value) for name, value in values.items()) > MOST_ENVIRONMENT:
        findings.problem(declared or node, f"the environment has more than {MOST_ENVIRONMENT} characters.")
    return tuple(sorted(values.items()))


def _list_or_one(node: Node | None) -> list[Node]:
    if node is None:
        return []
    return node.items if isinstance(node.value, list) else [node]


def _from_file(item: Node, context: Context) -> dict[str, str]:
    name = str(item.value).removeprefix("./")
    text = context.env_files(name)
    if text is None:
        context.findings.problem(
            item, f"{item.path}: {shown_text(name)} cannot be read. Create it, or remove the line."
        )
        return {}
    inside = Findings(name)
    values = env_file.parse(text, inside)
    for problem in inside.problems:
        context.findings.problem(item, f"{item.path}: {problem}")
    return values


def _pairs(node: Node | None, findings: Findings) -> list[tuple[str, str]]:
    """Names and values of a mapping or a list of name=value; twice the same name is a problem."""
    if node is None:
        return []
    if node.mapping:
        return [(name, value.text) for name, value in node.mapping.items()]
    pairs: dict[str, str] = {}
    for item in node.items:
        name, _, value = str(item.value).partition("=")
        if name in pairs:
            findings.problem(item, f"{node.path}.{name} is written twice. Keep one of them.")
        pairs[name] = value
    return list(pairs.items())


def _labels(node: Node | None, findings: Findings) -> tuple[tuple[str, str], ...]:
    pairs = _pairs(node, findings)
    for name, _ in pairs:
        if node is not None and name.lower().startswith(OUR_LABELS):
            findings.problem(node.keys.get(name, node), f"{node.path}.{name} is ours to set. Use a name of your own.")
    return tuple(sorted(pairs))


def _mounts(node: Node, context: Context) -> dict[str, Any]:
    mounts, from_volumes = read_mounts(node.at("volumes"), context.around, context.findings)
    tmpfs = (*read_tmpfs(node.at("tmpfs"), context.findings), *from_volumes)
    targets = [*(mount.target for mount in mounts), *(entry.split(":")[0] for entry in tmpfs)]
    if "/tmp" not in targets:
        tmpfs = ("/tmp", *tmpfs)
    check_targets(node.at("volumes") or node.at("tmpfs") or node, targets, context.findings)
    return {"mounts": mounts, "tmpfs": tmpfs}


def _resources(node: Node, findings: Findings) -> Resources:
    given: dict[str, Any] = {}
    limits = node.at("deploy", "resources", "limits")
    if limits is None:
        return Resources()
    if (cpus := limits.at("cpus")) is not None:
        given["cpus"] = float(str(cpus.value))
        if not 0 < given["cpus"] <= 1024:
            findings.problem(cpus, f"{cpus.path} is {cpus.text}. Use a number of processors above 0, for example 0.5.")
    if (memory := limits.at("memory")) is not None:
        given["memory_bytes"] = size(memory.value)
        if not 6 * 2**20 <= (given["memory_bytes"] or 0) <= 2**50:
            findings.problem(memory, f"{memory.path} is {memory.text}. Use a size of at least 6m, for example 256m.")
    if (pids := limits.at("pids")) is not None:
        given["pids"] = pids.value
    return Resources(**given)


def _check(service: Service, node: Node, findings: Findings) -> None:
    """What no single key can tell."""
    mode = node.at("mode")
    if mode is not None and service.mode is Mode.CANARY and service.route is None:
        findings.problem(mode, f"{mode.path} is canary, which needs a route. Add one, or use stable.")
    elif mode is not None and service.mode is Mode.CANARY and not course_of(service).steps:
        findings.problem(mode, f"{mode.path} is canary, but rollout has no steps for one. Add steps, or use stable.")
    secret = node.at("tester_secret")
    if secret is not None and service.route is None:
        findings.problem(secret, f"{secret.path} needs a route, which testers come by. Add one, or remove the line.")
    probe = node.at("rollout", "probe", "path")
    if probe is not None and service.rollout.probe_path in uncounted_paths(service):
        findings.problem(probe, f"{probe.path} is what the service is asked about itself, which is no evidence. Use /.")
