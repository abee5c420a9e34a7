"""What `doctor` wants to know of the engine."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.adapters import docker_decode as decode
from reconciler.adapters.engine_connection import Connections
from reconciler.core.errors import EngineError


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """The engine, as it describes itself and its machine."""

    version: str
    api_version: str
    data_root: str
    cgroup_version: str
    live_restore: bool
    storage_driver: str
    operating_system: str
    architecture: str
    cpus: int
    memory_bytes: int
    warnings: tuple[str, ...] = ()


def engine_info(connections: Connections) -> EngineInfo:
    """Asked of the engine. Raises EngineError."""
    with connections.translated():
        client = connections.asking()
        facts, version = decode.table(client.info()), decode.table(client.version())
    warnings = facts.get("Warnings")
    return EngineInfo(
        version=decode.text(version.get("Version")),
        api_version=decode.text(version.get("ApiVersion")),
        data_root=decode.text(facts.get("DockerRootDir")),
        cgroup_version=decode.text(facts.get("CgroupVersion")),
        live_restore=facts.get("LiveRestoreEnabled") is True,
        storage_driver=decode.text(facts.get("Driver")),
        operating_system=decode.text(facts.get("OperatingSystem")),
        architecture=decode.text(facts.get("Architecture")),
        cpus=decode.whole(facts.get("NCPU")),
        memory_bytes=decode.whole(facts.get("MemTotal")),
        warnings=tuple(map(str, warnings)) if isinstance(warnings, list) else (),
    )


def facts(connections: Connections) -> tuple[tuple[str, bool, str], ...]:
    """Name, whether it is as it should be, and words. Never raises."""
    try:
        info = engine_info(connections)
    except EngineError as error:
        return (("docker engine", False, str(error)),)
    return (
        ("docker engine", True, f"{info.version}, API {info.api_version}, {info.operating_system}"),
        ("storage", True, f"{info.storage_driver} at {info.data_root}, cgroup v{info.cgroup_version}"),
        ("live restore", True, "on" if info.live_restore else "off: a restart of the engine stops all containers"),
        *(("engine warning", True, warning) for warning in info.warnings),
    )
