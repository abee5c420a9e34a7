"""The stack as a Compose file, and the labels by which Compose knows our containers (docs/adr/0006-compose-interop.md).

One value, the service as Compose holds it, becomes both the text and the hash, so the two cannot differ. Everything is
in the long form and fully resolved; nothing of it is left to Compose's defaults.
"""

from __future__ import annotations

import functools
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reconciler import assets
from reconciler.core.container import ContainerSpec
from reconciler.core.desired import HealthCheck, Mount
from reconciler.core.errors import RenderError
from reconciler.formats.compose_hash import NEWEST_CHECKED, Value, Version, config_hash, go_duration, go_float32

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATE = "docker-compose.yml.j2"
NETWORK_KEY = "default"
LABEL = "com.docker.compose."
HEALTHY = "service_healthy"
STARTED = "service_started"
CONDITIONS = (STARTED, HEALTHY, "service_completed_successfully")


@dataclass(frozen=True, slots=True)
class ComposeService:
    """One Compose service, such as `app-blue`, `nginx` or `opa`: one per slot, since `up` removes a surplus replica.

    `depends_on` are pairs of a service and Compose's condition. `replicas` is not part of Compose's hash.
    """

    name: str
    spec: ContainerSpec
    aliases: tuple[str, ...]
    depends_on: tuple[tuple[str, str], ...]
    replicas: int = 1


@dataclass(frozen=True, slots=True)
class ComposeView:
    """The Compose project. `volumes` are pairs of the key used in mounts and the volume's real name."""

    project: str
    services: tuple[ComposeService, ...]
    network_name: str
    network_driver: str
    volumes: tuple[tuple[str, str], ...]


def render(view: ComposeView) -> str:
    """docker-compose.yml; equal views give equal bytes. RenderError names what cannot be written."""
    services = {name: _written(fields) for name, fields in _services(_checked(view)).items()}
    document: dict[str, Value] = {"name": view.project, "services": services}
    if any(service.spec.network for service in view.services):
        document["networks"] = {NETWORK_KEY: {"name": view.network_name, "driver": view.network_driver}}
    if view.volumes:
        document["volumes"] = {key: {"name": name} for key, name in sorted(view.volumes)}
    return _template().render(project=view.project, document="\n".join(_yaml(_escaped(document), "")))


def config_hashes(
    view: ComposeView, *, working_dir: str | None = None, version: Version = NEWEST_CHECKED
) -> Mapping[str, str]:
    """Compose's config-hash of every service, by its name.

    `working_dir` is the folder of the Compose file: Compose hashes a relative bind source as the path it means there.
    """
    services = _services(_checked(view))
    return {name: config_hash(_placed(service, working_dir), version) for name, service in services.items()}


def compose_labels(
    view: ComposeView,
    service_name: str,
    *,
    number: int,
    image_id: str,
    working_dir: str,
    config_file: str,
    config_hash: str,
    version: Version = NEWEST_CHECKED,
) -> tuple[tuple[str, str], ...]:
    """The labels, sorted, with which Compose takes a container for replica `number` of its own service.

    `config_hash` is the service's of `config_hashes` for the same folder and version.
    """
    service = next(each for each in view.services if each.name == service_name)
    labels = {
        "config-hash": config_hash,
        "container-number": str(number),
        "depends_on": ",".join(f"{name}:{condition}:false" for name, condition in _depends_on(view, service).items()),
        "image": image_id,
        "oneoff": "False",
        "project": view.project,
        "project.config_files": config_file,
        "project.working_dir": working_dir,
        "service": service_name,
        "version": ".".join(str(part) for part in version),
    }
    return tuple((f"{LABEL}{name}", value) for name, value in sorted(labels.items()))


@functools.cache
def _template() -> Template:
    import jinja2  # slow to import, and only rendering needs it

    environment = jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(assets.read("render", TEMPLATE))


# ── a service as Compose holds it ──────────────────────────────────────────────────────────────────────────────────


def _services(view: ComposeView) -> dict[str, Mapping[str, Value]]:
    return {each.name: _service(view, each) for each in sorted(view.services, key=lambda each: each.name)}


def _service(view: ComposeView, service: ComposeService) -> Mapping[str, Value]:
    """The fields that say something, in no order that matters; what is absent is Compose's own empty value."""
    spec = service.spec
    fields: dict[str, Value] = {
        "image": spec.image,
        "scale": service.replicas if service.replicas != 1 else None,
        "depends_on": {name: {"condition": to, "required": True} for name, to in _depends_on(view, service).items()},
        "command": spec.command,
        "entrypoint": spec.entrypoint,
        "environment": dict(sorted(spec.environment)),
        "user": spec.user,
        "working_dir": spec.working_dir,
        "hostname": spec.hostname,
        "network_mode": None if spec.network else "none",
        "networks": {NETWORK_KEY: _attachment(service)} if spec.network else None,
        "ports": [_port(port.host_ip, port.host_port, port.container_port) for port in spec.ports],
        "volumes": [_mount(mount) for mount in spec.mounts],
        "tmpfs": spec.tmpfs,
        "healthcheck": _healthcheck(spec.healthcheck),
        "restart": spec.restart_policy,
        "stop_signal": spec.stop_signal,
        "stop_grace_period": go_duration(spec.stop_grace_period_s),
        "init": spec.init or None,
        "read_only": spec.read_only or None,
        "cap_drop": ["ALL"],
        "cap_add": spec.cap_add,
        "security_opt": ["no-new-privileges:true"],
        "pids_limit": spec.pids,
        "mem_limit": str(spec.memory_bytes) if spec.memory_bytes else None,
        "cpus": float(spec.cpus) if spec.cpus else None,
        "logging": {
            "driver": "json-file",
            "options": {"max-file": str(spec.log_max_files), "max-size": spec.log_max_size},
        },
        "labels": dict(sorted(spec.labels)),
    }
    kept_empty = ("command", "entrypoint")
    return {
        name: value
        for name, value in fields.items()
        if value is not None and (name in kept_empty or value not in ((), [], {}))
    }


def _written(fields: Mapping[str, Value]) -> Mapping[str, Value]:
    """The fields as the file has them. Compose loses a name that begins with `x-` in a mapping, but not in a list."""
    written = dict(fields)
    for field in ("environment", "labels"):
        pairs = fields.get(field)
        if isinstance(pairs, Mapping) and any(name.startswith("x-") for name in pairs):
            written[field] = [f"{name}={value}" for name, value in pairs.items()]
    return written


def _depends_on(view: ComposeView, service: ComposeService) -> Mapping[str, str]:
    """Service -> condition, sorted. Where there is no test for Compose to run, healthy can only mean started.

    A path that we probe ourselves is no test of Compose's: that needs a program inside the image.
    """
    tested = {each.name for each in view.services if each.spec.healthcheck and each.spec.healthcheck.test}
    return {
        name: STARTED if condition == HEALTHY and name not in tested else condition
        for name, condition in sorted(service.depends_on)
    }


def _attachment(service: ComposeService) -> Value:
    return {"aliases": sorted(set(service.aliases))} if service.aliases else None


def _port(host_ip: str, host_port: int, container_port: int) -> Mapping[str, Value]:
    address: dict[str, Value] = {"host_ip": host_ip} if host_ip else {}
    published: dict[str, Value] = {"target": container_port, "published": str(host_port), "protocol": "tcp"}
    return {"mode": "ingress"} | address | published


def _mount(mount: Mount) -> Mapping[str, Value]:
    """`create_host_path` off: a source that is missing is an error, not an empty folder that belongs to root."""
    source: dict[str, Value] = {"source": mount.source} if mount.kind != "tmpfs" else {}
    read_only: dict[str, Value] = {"read_only": True} if mount.read_only else {}
    bind: dict[str, Value] = {"bind": {"create_host_path": False}} if mount.kind == "bind" else {}
    return {"type": mount.kind} | source | {"target": mount.target} | read_only | bind


def _healthcheck(check: HealthCheck | None) -> Mapping[str, Value] | None:
    if check is None or not check.test:
        return None
    fields: dict[str, Value] = {
        "test": check.test,
        "timeout": go_duration(check.timeout_s),
        "interval": go_duration(check.interval_s),
        "retries": check.retries,
    }
    return fields | ({"start_period": go_duration(check.start_period_s)} if check.start_period_s else {})


def _placed(service: Mapping[str, Value], working_dir: str | None) -> Mapping[str, Value]:
    """The service as it is hashed: bind sources where they are, and the one default that Compose then leaves out."""
    placed = dict(service)
    volumes = service.get("volumes")
    if isinstance(volumes, list):
        placed["volumes"] = [_placed_mount(mount, working_dir) for mount in volumes if isinstance(mount, Mapping)]
    return placed


def _placed_mount(mount: Mapping[str, Value], working_dir: str | None) -> Mapping[str, Value]:
    if mount["type"] != "bind":
        return mount
    source = str(mount["source"])
    if not posixpath.isabs(source):
        if working_dir is None:
            raise RenderError(f"The bind mount of {source} is relative: its hash needs the Compose file's folder.")
        source = posixpath.normpath(posixpath.join(working_dir, source))
    return {**mount, "source": source, "bind": {}}


# ── what may go in ─────────────────────────────────────────────────────────────────────────────────────────────────

_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]*")
_KEY = re.compile(r"(?!x-)[A-Za-z0-9][A-Za-z0-9._-]*")
_REAL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VARIABLE = re.compile(r"(?!<<\Z)[^=\s\x00-\x1f\x7f]+")
_NUL_OR_HALF_A_CHARACTER = re.compile("[\x00\ud800-\udfff]")


def _checked(view: ComposeView) -> ComposeView:
    """`view`, if its names are Compose's kind of names and refer to each other."""
    _fit(_PROJECT, "project.name", view.project, "lower-case letters, digits, dashes and underscores")
    names = [service.name for service in view.services]
    kind = "letters, digits, dots, dashes and underscores, and no `x-` in front"
    for name in names:
        _fit(_KEY, "a Compose service's name", name, kind)
        if names.count(name) > 1:
            raise RenderError(f"Two Compose services are called {name}.")
    for key, name in view.volumes:
        _fit(_KEY, "a volume's key", key, kind)
        _fit(_REAL_NAME, f"the name of the volume {key}", name, kind)
    _fit(_REAL_NAME, "network.name", view.network_name, kind)
    for service in view.services:
        _checked_service(service, names, [key for key, _ in view.volumes])
    return view


def _checked_service(service: ComposeService, names: list[str], volumes: list[str]) -> None:
    where, spec = f"services.{service.name}", service.spec
    for name, condition in service.depends_on:
        if name not in names or condition not in CONDITIONS:
            raise RenderError(f"{where}.depends_on has {name}: {condition}, which this project does not have.")
    for name, _ in (*spec.environment, *spec.labels):
        _fit(_VARIABLE, f"a name in {where}.environment or .labels", name, "no blanks, control characters or `=`")
        if name.startswith(LABEL):
            raise RenderError(f"{where}.labels has {name}: these labels are Compose's own.")
    for mount in spec.mounts:
        if mount.kind == "volume" and mount.source not in volumes:
            raise RenderError(f"{where} mounts the volume {mount.source}, which this project does not have.")
        if mount.kind == "bind" and not mount.source.startswith(("/", "./")):
            raise RenderError(f"{where} mounts {mount.source!r}. Write a bind source as /path or ./path.")
    if not spec.network and (service.aliases or spec.ports):
        raise RenderError(f"{where} has no network: it can have neither aliases nor published ports.")


def _fit(pattern: re.Pattern[str], field: str, value: str, wanted: str) -> None:
    if pattern.fullmatch(value) is None:
        raise RenderError(f"{field} is {value!r}. Use {wanted}.")


# ── YAML ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_PLAIN = re.compile(r"(?:[A-Za-z_/]|\./)(?:[A-Za-z0-9_./@-]|:(?=[A-Za-z0-9_./@-]))*")
_WORDS_OF_YAML = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf"})


def _escaped(value: Value) -> Value:
    """`$` doubled in every value: Compose would put the caller's environment there. It leaves names alone."""
    match value:
        case str():
            return value.replace("$", "$$")
        case Mapping():
            return {name: _escaped(each) for name, each in value.items()}
        case list() | tuple():
            return [_escaped(each) for each in value]
        case _:
            return value


def _yaml(value: Value, indent: str) -> list[str]:
    """Lines of a mapping or list in block form."""
    lines = []
    if isinstance(value, Mapping):
        for name, each in value.items():
            lines += _entry(f"{indent}{_scalar(name)}:", each, indent)
    elif isinstance(value, list):
        for each in value:
            lines += _item(each, indent)
    return lines


def _entry(start: str, value: Value, indent: str) -> list[str]:
    if isinstance(value, Mapping | list) and value:
        return [start, *_yaml(value, indent + "  ")]
    return [f"{start} {_scalar(value)}"]


def _item(value: Value, indent: str) -> list[str]:
    if isinstance(value, Mapping):
        first, *rest = _yaml(value, indent + "  ")
        return [f"{indent}- {first.lstrip()}", *rest]
    return [f"{indent}- {_scalar(value)}"]


def _scalar(value: Value) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return go_float32(value)
        case str():
            return value if _is_plain(value) else _quoted(value)
        case Mapping():
            return "{}"
        case _:
            return "[]"


def _is_plain(text: str) -> bool:
    """Whether every reader of YAML 1.1 or 1.2 takes the bare text for this very string."""
    return _PLAIN.fullmatch(text) is not None and text.lower() not in _WORDS_OF_YAML


def _quoted(text: str) -> str:
    if _NUL_OR_HALF_A_CHARACTER.search(text):
        raise RenderError(f"{text!r} holds a character that no file can: NUL or half of a pair.")
    return '"' + "".join(_YAML_ESCAPES.get(character) or _in_ascii(character) for character in text) + '"'


_YAML_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _in_ascii(character: str) -> str:
    code = ord(character)
    if 0x20 <= code < 0x7F:
        return character
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
