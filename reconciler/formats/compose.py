"""PLACEHOLDER by the lead, to be replaced whole by the renderer's owner (same names)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from reconciler.core.container import ContainerSpec


@dataclass(frozen=True, slots=True)
class ComposeService:
    name: str
    spec: ContainerSpec
    aliases: tuple[str, ...]
    depends_on: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ComposeView:
    project: str
    services: tuple[ComposeService, ...]
    network_name: str
    network_driver: str
    volumes: tuple[tuple[str, str], ...]


def render(view: ComposeView) -> str:
    return yaml.safe_dump({"services": {s.name: {"image": s.spec.image} for s in view.services}})


def compose_labels(
    view: ComposeView, service_name: str, *, number: int, image_id: str, working_dir: str, config_file: str
) -> tuple[tuple[str, str], ...]:
    labels: Mapping[str, str] = {
        "com.docker.compose.project": view.project,
        "com.docker.compose.service": service_name,
    }
    return tuple(labels.items())
