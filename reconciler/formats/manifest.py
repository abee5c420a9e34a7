"""The manifest: text to DesiredState, with everything that is wrong told at once.

    bytes ─ yaml_strict ─▶ tree ─ spellings ─▶ our words ─ compose_keys, later, structure ─▶ shape ─▶ DesiredState

Each arrow notes what it finds and goes on with the rest.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from reconciler.core.desired import DesiredState, Json, Network, Nginx, Opa
from reconciler.core.errors import ManifestError, Problem
from reconciler.formats import compose_keys, known_keys, later, spellings, structure, yaml_strict
from reconciler.formats.findings import Findings
from reconciler.formats.mounts import HostAllow, LinkBelow, Surroundings
from reconciler.formats.quantities import duration
from reconciler.formats.schema import part, schema
from reconciler.formats.service import Context, read_service
from reconciler.formats.sync import read_windows
from reconciler.formats.tester import SecretFile
from reconciler.formats.yaml_strict import Node

__all__ = ["EnvFiles", "Reading", "parse", "read", "schema"]

EnvFiles: TypeAlias = "Callable[[str], str | None] | Mapping[str, str]"
MOST_SERVICES = 64


@dataclass(frozen=True, slots=True)
class Reading:
    """What a manifest says: `desired` unless there are `problems`; `warnings` never stop anything.

    `digest` is the SHA-256 (hex) of the bytes. `env_files` and `secrets` are the names that were asked for, `binds`
    the paths of the host
    that were looked at, each with the folder that was trusted.
    """

    desired: DesiredState | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    digest: str
    env_files: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    binds: tuple[tuple[str, str], ...] = ()


def parse(data: bytes, file: str = "manifest.yaml") -> Node:
    """The YAML in `data`: a mapping with the place of every value. Raises ManifestError."""
    root = yaml_strict.load(data, file)
    if not isinstance(root.value, dict):
        raise ManifestError([Problem(file, root.line, root.column, _NO_MAPPING)])
    return root


_NO_MAPPING = "the manifest is not a mapping. Start with the keys services, nginx and network."


def read(
    data: bytes,
    *,
    file: str = "manifest.yaml",
    folder: str = "",
    name: str = "",
    env_files: EnvFiles | None = None,
    allow: HostAllow | frozenset[str] = frozenset(),
    processors: int | None = None,
    secrets: Callable[[str], SecretFile] | None = None,
    link_below: LinkBelow = lambda _path, _base: None,
) -> Reading:
    """What the manifest asks for, or all that is wrong with it. Never raises.

    `folder` is the manifest's: its name becomes the project's, unless `name` is given, and a whole path makes bind
    mounts absolute.
    `env_files` gives the text of an environment file by its path below that folder. `allow` holds the host
    paths that may be mounted, by this project or by whichever, `processors` this host's count. `secrets` gives a
    secret's file by its name; None leaves secrets alone. `link_below` is Surroundings'.
    """
    findings = Findings(file)
    digest = hashlib.sha256(data).hexdigest()
    asked: list[str] = []
    asked_secrets: list[str] = []
    binds: list[tuple[str, str]] = []
    desired = None
    try:
        root = parse(data, file)
    except ManifestError as error:
        return Reading(None, error.problems, (), digest)
    lookup = _Secrets(secrets, asked_secrets) if secrets else None
    if _normalised(root, findings):
        looked_at = _Binds(link_below, binds)
        place = (folder, name or folder)
        desired = _desired(root, digest, place, _Files(env_files or {}, asked), allow, findings, lookup, looked_at)
        _check_load(root, processors, findings)
    problems = findings.problems
    return Reading(
        None if problems else desired,
        problems,
        findings.warnings,
        digest,
        tuple(asked),
        tuple(asked_secrets),
        tuple(binds),
    )


def _normalised(root: Node, findings: Findings) -> bool:
    """Our words, our shape; false when there is no point in reading on."""
    spellings.normalise(root, findings)
    services = root.at("services")
    if services is not None and len(services.mapping) > MOST_SERVICES:
        later.several_services(list(services.mapping), services, findings)
        return False
    for service in services.mapping.values() if services else ():
        compose_keys.check(service, findings)
    compose_keys.check_volumes(root, findings)
    later.refuse(root, findings)
    known_keys.drop_unknown(root, part(), findings)
    structure.check(root, findings)
    return True


@dataclass(frozen=True, slots=True)
class _Files:
    """Environment files by name; remembers which were asked for."""

    source: EnvFiles
    asked: list[str]

    def __call__(self, name: str) -> str | None:
        self.asked.append(name)
        return self.source(name) if callable(self.source) else self.source.get(name)


@dataclass(frozen=True, slots=True)
class _Secrets:
    """Secrets' files by name; remembers which were asked for."""

    source: Callable[[str], SecretFile]
    asked: list[str]

    def __call__(self, name: str) -> SecretFile:
        self.asked.append(name)
        return self.source(name)


@dataclass(frozen=True, slots=True)
class _Binds:
    """Links in paths of the host; remembers which paths were asked about."""

    source: LinkBelow
    asked: list[tuple[str, str]]

    def __call__(self, path: str, base: str) -> str | None:
        self.asked.append((path, base))
        return self.source(path, base)


def _desired(
    root: Node,
    digest: str,
    place: tuple[str, str],
    files: _Files,
    allow: HostAllow | frozenset[str],
    findings: Findings,
    secrets: _Secrets | None,
    link_below: LinkBelow,
) -> DesiredState:
    folder, name = place
    project = _text(root, "project", "name") or slug(name)
    absolute = folder if folder.startswith("/") else ""
    paths, trouble = (allow.of(project), allow.trouble) if isinstance(allow, HostAllow) else (allow, "")
    around = Surroundings(project, findings.file, absolute, _volumes(root, project), paths, trouble, link_below)
    context = Context(findings, around, files, secrets)
    services = root.at("services")
    read_ones = tuple(
        read_service(name, node, context) for name, node in (services.mapping.items() if services else ())
    )
    timeout = root.at("deploy", "health_timeout_seconds")
    return DesiredState(
        project=project,
        revision=digest,
        services=read_ones,
        nginx=_nginx(root, read_ones[0].name if len(read_ones) == 1 else "", findings),
        network=Network(_text(root, "network", "name"), _text(root, "network", "driver_type") or "bridge"),
        opa=_opa(root),
        limits=_limits(root),
        health_timeout_s=float(str(timeout.value)) if timeout else 60.0,
        windows=read_windows(root.at("sync"), services.mapping if services else (), findings),
    )


def slug(folder: str) -> str:
    """A project's name from a folder's: the last part of the path, in what a project may be called."""
    last = re.split(r"[/\\]", folder.rstrip("/\\"))[-1].lower()
    return re.sub(r"[^a-z0-9_]+", "-", last).strip("-_")[:63].rstrip("-_") or "swiftdeploy"


def _text(root: Node, *path: str) -> str:
    node = root.at(*path)
    return str(node.value) if node is not None else ""


def _volumes(root: Node, project: str) -> dict[str, str]:
    """Real names of the declared volumes."""
    declared = root.at("volumes")
    names = {}
    for key, node in declared.mapping.items() if declared else ():
        external = node.at("external")
        own = key if external is not None and external.value is True else f"{project}_{key}"
        names[key] = _text(node, "name") or own
    return names


def _nginx(root: Node, service: str, findings: Findings) -> Nginx:
    node = root.at("nginx") or root
    given: dict[str, Any] = {}
    port = node.at("port")
    if (timeout := node.at("proxy_timeout")) is not None:
        given["proxy_timeout_s"] = duration(timeout, findings)
    if (contact := node.at("contact")) is not None:
        given["contact"] = contact.value
    return Nginx(
        image=_text(node, "image"),
        port=port.value if port is not None and isinstance(port.value, int) else 0,
        service_name=_text(node, "service_name") or service,
        **given,
    )


def _opa(root: Node) -> Opa:
    node = root.at("opa") or root
    given: dict[str, Any] = {}
    if node is not root:
        if (image := node.at("image")) is not None:
            given["image"] = image.value
        if (timeout := node.at("decision_timeout_seconds")) is not None:
            given["decision_timeout_s"] = float(str(timeout.value))
        if (folder := node.at("policies_dir")) is not None:
            given["policies_dir"] = str(folder.value).removeprefix("./").rstrip("/")
    return Opa(**given)


def _limits(root: Node) -> dict[str, dict[str, Json]]:
    """Every domain's limits, ours with their defaults filled in."""
    policy = root.at("policy")
    limits: dict[str, dict[str, Json]] = {}
    for domain in ("infrastructure", "canary"):
        known = part("$defs", domain)["properties"]
        limits[domain] = {key: each["default"] for key, each in known.items() if "default" in each}
    for domain, node in policy.mapping.items() if policy else ():
        given = node.plain()
        limits.setdefault(domain, {}).update(given if isinstance(given, dict) else {})
    return limits


def _check_load(root: Node, processors: int | None, findings: Findings) -> None:
    load = root.at("policy", "infrastructure", "max_cpu_load")
    if load is not None and processors and isinstance(load.value, (int, float)) and load.value > 4 * processors:
        findings.warning(
            load,
            f"{load.path} is {load.text}, more than four times this host's {processors} processors: "
            "it will hardly ever say no.",
        )
