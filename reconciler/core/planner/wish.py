"""Everything that should be so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.core.desired import DesiredState
from reconciler.core.targets import Targets

PROXY_CONFIG = "nginx/live/nginx.conf"
"""The configuration that the daemon's nginx reads, under `rendered/`."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Everything that should be so. `files` maps paths under `rendered/` to their text.

    `proxy_hash` is the hash that nginx answers once it runs `files[PROXY_CONFIG]`. `compose_labels` are, by
    Compose service, the labels that let `docker compose` know our containers. `allow_interruption` lets
    nginx be replaced, which drops connections. `commit` is told to containers that are made, and is never a reason.
    """

    desired: DesiredState
    targets: Targets
    instance: str
    files: Mapping[str, str] = field(default_factory=dict)
    proxy_hash: str = ""
    compose_labels: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    allow_interruption: bool = False
    commit: str = ""
