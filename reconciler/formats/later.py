"""What the model already has a word for and this version refuses, one function each: easy to take away.

Better a clear refusal than a key that is read and then does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.formats.findings import Findings, shown_key
from reconciler.formats.yaml_strict import Node

_TOP = {
    "configs": "configs are not supported. Mount a folder: volumes: [./config:/etc/app:ro]",
    "secrets": "secrets come later. Until then mount a file read-only: volumes: [./secrets:/run/secrets:ro]",
    "source": "where the manifest comes from is the host's word, in /etc/swiftdeploy/reconciler.yaml. Remove it here",
    "notifications": "notifications come later. Remove it; history.jsonl has every cycle",
}
_SYNC = {"suspend": "an operator keeps the daemon still: reconcilerctl suspend. Remove it"}
_SERVICE = {
    "secrets": "secrets come later. Until then mount a file read-only: volumes: [./secrets:/run/secrets:ro]",
    "depends_on": "it comes with several services. Remove it: this version runs one",
}


def refuse(root: Node, findings: Findings) -> None:
    """All of it, on a tree in our own words; what is refused is taken out."""
    _blocks(root, _TOP, findings)
    if (sync := root.mapping.get("sync")) is not None:
        _blocks(sync, _SYNC, findings)
    services = root.mapping.get("services")
    if services is not None:
        several_services(list(services.mapping), services, findings)
        for service in services.mapping.values():
            _blocks(service, _SERVICE, findings)
    nginx = root.mapping.get("nginx")
    if nginx is not None:
        _blocks(nginx, {"tls": "TLS comes later. Until then let a proxy in front end it"}, findings)


def several_services(names: Sequence[str], services: Node, findings: Findings) -> None:
    """One service a manifest, until stacks come."""
    if len(names) > 1:
        some = ", ".join(shown_key(name) for name in names[:10]) + (", …" if len(names) > 10 else "")
        place = services.keys.get(names[1], services)
        findings.problem(place, f"several services: not yet; this version runs one service (found: {some})")


def _blocks(node: Node, blocks: dict[str, str], findings: Findings) -> None:
    for key, why in blocks.items():
        block = node.mapping.pop(key, None)
        if block is not None and block.value not in ([], {}):
            findings.problem(node.keys.get(key, block), f"{block.path} is refused: {why}.")
