"""A manifest, through the real reader and the real renderers, and what came out in pieces that can be compared."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import crossplane
import yaml

from reconciler.core.desired import DesiredState
from reconciler.core.rollout import Rollout
from reconciler.core.targets import make_targets
from reconciler.formats import manifest, rendered
from reconciler.formats.manifest import Reading
from tests import builders

Tree = dict[str, Any]

PLAIN: Tree = {
    "project": {"name": "shop"},
    "services": {
        "name": "app",
        "image": "shop/web:1",
        "port": 3000,
        "route": {"path": "/"},
        "rollout": {"probe": {"path": "/", "rate": 1}},
        "metrics": {"path": "/metrics"},
        "healthcheck": {"path": "/healthz"},
    },
    "nginx": {"image": "nginx:latest", "port": 8080},
    "network": {"name": "net", "driver_type": "bridge"},
}


def tree(*changes: tuple[str, Any]) -> Tree:
    """The plain manifest with values put at dotted paths; a number in a path is a place in a list."""
    root = copy.deepcopy(PLAIN)
    for path, value in changes:
        *above, last = path.split(".")
        at: Any = root
        for step in above:
            at = at.setdefault(step, {}) if isinstance(at, dict) else at[int(step)]
        if isinstance(at, dict):
            at[last] = value
        else:
            at[int(last)] = value
    return root


def read(root: Tree, **options: Any) -> Reading:
    """What the manifest says; its folder has an environment file `a.env` and no secrets."""
    return manifest.read(json.dumps(root).encode(), folder="/srv/shop", **{"env_files": {"a.env": ""}, **options})


def files_of(desired: DesiredState) -> Mapping[str, str]:
    """What `state/rendered/` would hold, OPA's files left out."""
    names = {desired.services[0].image, desired.nginx.image, desired.opa.image}
    targets = make_targets(desired, {name: builders.image(name) for name in names}, (), builders.LAYOUT, ())
    return rendered.render(desired, targets, Rollout(), builders.LAYOUT).files


def skeleton(text: str, folder: Path) -> list[str]:
    """The directives of an nginx.conf with the blocks around them, as crossplane's own parser sees them."""
    path = folder / "skeleton.conf"
    path.write_text(text, encoding="utf-8")
    parsed = crossplane.parse(str(path), single=True, combine=False, strict=False, check_args=False, check_ctx=False)
    assert parsed["status"] == "ok", parsed["errors"]
    return list(_directives(parsed["config"][0]["parsed"], ""))


def _directives(block: list[dict[str, Any]], around: str) -> Iterator[str]:
    for each in block:
        yield f"{around}{each['directive']}/{len(each['args'])}"
        yield from _directives(each.get("block") or [], f"{around}{each['directive']} > ")


def leaves(text: str) -> dict[str, Any]:
    """Every scalar of a Compose file by its path, as a YAML reader that is not ours sees it."""
    return dict(_leaves(yaml.safe_load(text), ""))


def _leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{path}/{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _leaves(value, f"{path}/{index}")
    else:
        yield path, node


def interpolated(value: Any) -> Any:
    """A value as Compose puts the caller's environment into it; a variable it would look up becomes LEAK."""
    if not isinstance(value, str):
        return value
    return re.sub(r"\$(?:\$|\{[^}]*\}|[A-Za-z_][A-Za-z0-9_]*)", lambda m: "$" if m[0] == "$$" else "LEAK", value)
