"""Other words people use for our keys, mapped to ours with one line each; the file itself is left alone.

A key that moves keeps its place and its path, so whatever is wrong with the value is told where it stands.
Two spellings of one thing: a warning when they say the same, an error that names both when they do not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from reconciler.core.desired import Json
from reconciler.formats.findings import Findings, is_private, shown, shown_key
from reconciler.formats.known_keys import closest
from reconciler.formats.quantities import seconds, times
from reconciler.formats.schema import part
from reconciler.formats.spelling_table import FOREIGN_BLOCKS, IGNORED, LIMITS, PREFIXES, QUIET, RENAMED
from reconciler.formats.yaml_strict import Node


def normalise(root: Node, findings: Findings) -> None:
    """Give every value its own key, in place: `services` is a mapping of names to services afterwards."""
    Spellings(root, findings).run()


@dataclass(slots=True)
class Spellings:
    """One manifest being put into our words; `names` are its services'."""

    root: Node
    findings: Findings
    names: tuple[str, ...] = ()

    def run(self) -> None:
        self.names = tuple(_split_services(self.root))
        self._texts_for_blocks()
        for old, new in RENAMED:
            if old == "policies" and isinstance(getattr(self._get("policies"), "value", None), str):
                new = "opa.policies_dir"
            self._rename(old, new)
        self._texts_for_blocks()
        for name in self.names:
            self._environment(f"services.{name}")
            self._flat_health(f"services.{name}")
            self._compose_restart(f"services.{name}")
        self._log_volume()
        self._limits()
        self._opa_url()
        for path, why in IGNORED:
            for each in self._each(path):
                if (node := self._take(each)) is not None:
                    self.findings.warning(node, f"{node.path} has no effect: {why}.")
        for block in FOREIGN_BLOCKS:
            self._left_over(block)

    # --- the tree

    def _each(self, path: str) -> Iterable[str]:
        return [path.replace("*", name, 1) for name in self.names] if "*" in path else [path]

    def _get(self, path: str) -> Node | None:
        return self.root.at(*path.split("."))

    def _take(self, path: str) -> Node | None:
        *above, last = path.split(".")
        parent = self.root.at(*above)
        return parent.mapping.pop(last, None) if parent is not None else None

    def _put(self, path: str, node: Node) -> None:
        """Put `node` at `path`; blocks that are missing are made, standing where `node` stands."""
        *above, last = path.split(".")
        at = self.root
        for depth, step in enumerate(above, 1):
            if step not in at.mapping or at.mapping[step].value is None:
                made = Node({}, node.line, node.column, path=self._written(".".join(above[:depth])))
                at.mapping[step] = made
            at = at.mapping[step]
            if not isinstance(at.value, dict):
                return  # the shape is told later
        at.mapping[last] = node

    def _written(self, path: str) -> str:
        """The path as this manifest writes it: a single service's has no name in it."""
        service = self.root.mapping.get("services")
        first = next(iter(service.mapping.values()), None) if service else None
        if first is not None and first.path == "services":
            return ".".join(["services", *path.split(".")[2:]]) if path.startswith("services.") else path
        return path

    # --- moving

    def _rename(self, old: str, new: str) -> None:
        if "*" in new and "*" not in old:
            self._to_the_service(old, new)
            return
        for name in self.names if "*" in old else ("",):
            path = old.replace("*", name, 1)
            node = self._get(path)
            if node is not None:
                self._take(path)
                self._give(node, new.replace("*", name, 1), quiet=old in QUIET)

    def _to_the_service(self, old: str, new: str) -> None:
        node = self._take(old)
        if node is None:
            return
        if len(self.names) > 1:
            self.findings.problem(node, f"{node.path} could mean any service. Write it in the one it is for.")
        elif self.names:
            self._give(node, new.replace("*", self.names[0], 1))

    def _give(self, node: Node, new: str, *, quiet: bool = False) -> None:
        """Let `node` be the value of `new`, unless something else already is."""
        there = self._get(new)
        ours = self._written(new)
        if there is None or (there.value is None and not node.value):
            self._put(new, node)
            if not quiet and node.path != ours:
                self.findings.warning(node, f"{node.path} is read as {ours}: {_value(node)}. Better write {ours}.")
        elif isinstance(node.value, dict) and isinstance(there.value, dict):
            for key, value in node.mapping.items():
                self._give(value, f"{new}.{key}", quiet=quiet)
        elif same(node, there):
            self.findings.warning(node, f"{node.path} says the same as {there.path}. Keep only {ours}.")
        else:
            self.findings.problem(
                node, f"{node.path} is {_value(node)}, but {there.path} is {_value(there)}. Keep only {ours}."
            )

    # --- cases

    def _texts_for_blocks(self) -> None:
        """`project: shop` and `healthcheck: /healthz` mean the one key that such a block has above all."""
        for block, key in (("project", "name"), *((f"services.{name}.healthcheck", "path") for name in self.names)):
            node = self._get(block)
            if node is not None and isinstance(node.value, str) and (node.value[:1] == "/") == (key == "path"):
                self._take(block)
                self._give(node, f"{block}.{key}")

    def _environment(self, service: str) -> None:
        for block, names in (("env", ("MODE", "mode")), ("environment", ("MODE",))):
            for name in names:
                if (node := self._take_variable(f"{service}.{block}", name)) is not None:
                    self._give(node, f"{service}.mode")
            if (node := self._take_variable(f"{service}.{block}", "APP_VERSION")) is not None:
                self._give(dataclasses.replace(node, value=node.text), f"{service}.version")
            if (node := self._take_variable(f"{service}.{block}", "APP_PORT")) is not None:
                port = int(node.text) if node.text.isdecimal() and len(node.text) < 6 else node.value
                self._give(dataclasses.replace(node, value=port), f"{service}.port")
        if (node := self._get(f"{service}.env")) is not None:
            self._take(f"{service}.env")
            if node.value:
                self._give(node, f"{service}.environment")

    def _take_variable(self, block: str, name: str) -> Node | None:
        """The value of an environment variable, out of a mapping or a list; a list's item keeps its place."""
        node = self._get(block)
        if node is None:
            return None
        if name in node.mapping:
            return node.mapping.pop(name)
        for index, item in enumerate(node.items):
            if isinstance(item.value, str) and item.value.startswith(f"{name}="):
                node.items.pop(index)
                text = item.value[len(name) + 1 :]
                return dataclasses.replace(item, value=text, text=text, path=f"{node.path}.{name}")
        return None

    def _flat_health(self, service: str) -> None:
        node = self._get(service)
        for key in [key for key in node.mapping if key.startswith("healthcheck_")] if node else []:
            name = key.removeprefix("healthcheck_")
            name = {"endpoint": "path", "url": "path"}.get(name, name)
            name = name.removesuffix("_seconds").removesuffix("_s")
            if name in part("$defs", "healthcheck")["properties"]:
                moved = self._take(f"{service}.{key}")
                assert moved is not None
                self._give(moved, f"{service}.healthcheck.{name}")

    def _compose_restart(self, service: str) -> None:
        """Compose's `deploy.restart_policy` block, as the word that Docker knows."""
        policy = self._take(f"{service}.deploy.restart_policy")
        if policy is None:
            return
        condition = policy.mapping.get("condition")
        word = condition.value if condition else "any"
        attempts = policy.mapping.get("max_attempts")
        known = {"none": "no", "any": "always", "on-failure": "on-failure"}
        if isinstance(policy.value, str):
            self._give(policy, f"{service}.restart_policy")
        elif isinstance(word, str) and word in known:
            text = known[word] + (f":{attempts.value}" if attempts and word == "on-failure" else "")
            self._give(dataclasses.replace(policy, value=text, text=text), f"{service}.restart_policy")
        else:
            self.findings.problem(policy, f"{policy.path} is not understood. Use restart_policy: on-failure:3.")

    def _log_volume(self) -> None:
        """`volumes.logs` as a text or `{name}` names the log volume; otherwise it is Compose's declaration."""
        for old in ("volumes.logs", "volumes.app_logs"):
            node = self._get(old)
            name = node.mapping.get("name") if node else None
            if node is None or not (isinstance(node.value, str) or name):
                continue
            self._take(old)
            self._put(old, dataclasses.replace(name or node, path=node.path))
            self._to_the_service(old, "services.*.log_volume")

    def _limits(self) -> None:
        policy = self._get("policy")
        if policy is None:
            return
        if (infra := policy.mapping.get("infra")) is not None and infra.mapping:
            self._take("policy.infra")
            self._give(infra, "policy.infrastructure")
        for key in [key for key, node in policy.mapping.items() if not node.mapping and not node.items]:
            self._flat_limit(key)
        for domain, old, new, factor in LIMITS:
            if (node := self._take(f"policy.{domain}.{old}")) is not None:
                self._give(_times(node, factor), f"policy.{domain}.{new}")

    def _flat_limit(self, key: str) -> None:
        """A limit straight under `policy` goes to the domain that knows it."""
        for prefix, domain in ({"": ""} | PREFIXES).items():
            name = key.removeprefix(prefix)
            if prefix and not key.startswith(prefix):
                continue
            for candidate in (domain,) if domain else ("infrastructure", "canary"):
                known = set(part("$defs", candidate)["properties"]) | {old for at, old, *_ in LIMITS if at == candidate}
                if name not in known:
                    continue
                node = self._take(f"policy.{key}")
                assert node is not None
                factor = next((by for at, old, _, by in LIMITS if (at, old) == (candidate, name)), Decimal(1))
                ours = next((new for at, old, new, _ in LIMITS if (at, old) == (candidate, name)), name)
                self._give(_times(node, factor), f"policy.{candidate}.{ours}")
                return

    def _opa_url(self) -> None:
        for path in ("policy.opa_url", "opa.url", "opa_url"):
            node = self._take(path)
            if node is None:
                continue
            host = str(node.value).split("://")[-1].split("/")[0].rsplit(":", 1)[0].strip("[]")
            if host in ("localhost", "127.0.0.1", "::1", "opa"):
                self.findings.warning(node, f"{node.path} has no effect: OPA is a container of ours, on a socket.")
            else:
                self.findings.problem(
                    node, f"{node.path} is {_value(node)}. Remove it: OPA is a container of ours, not elsewhere."
                )

    def _left_over(self, block: str) -> None:
        node = self._take(block)
        if node is None:
            return
        meant = {old.split(".", 1)[1]: None for old, _ in RENAMED if old.startswith(f"{block}.")}
        for key in list(node.mapping)[:30]:
            path = f"{node.path}.{shown_key(key)}"
            near = closest(key, meant)
            if near and not key.startswith("x-"):
                self.findings.problem(node.keys.get(key, node), f"{path} is no key. Did you mean {near}?")
            else:
                self.findings.warning(node.keys.get(key, node), f"{path} has no effect: there is no such key.")
        if not node.mapping and node.value != {}:
            self.findings.warning(node, f"{node.path} has no effect: there is no such key.")


def _split_services(root: Node) -> list[str]:
    """Make `services` a mapping of names to services, and name them."""
    services = root.mapping.get("services")
    if services is None or not services.mapping:
        return []
    if is_single(services):
        name = services.mapping.get("name")
        key = name.value if name and isinstance(name.value, str) and name.value else "app"
        key = key if key.isprintable() and "." not in key else "app"
        wrapper = dataclasses.replace(services, value={key: services}, keys={key: name or services})
        root.mapping["services"] = wrapper
        return [key]
    return [name for name in services.mapping if "." not in name]


def is_single(services: Node) -> bool:
    """One service stands under `services` itself, not a mapping of names: it has an image, or should have."""
    if "image" in services.mapping:
        return True
    keys = part("$defs", "service")["properties"]
    if all(node.mapping for node in services.mapping.values()):
        return all(key in keys for key in services.mapping)
    return any(not node.mapping and key in keys for key, node in services.mapping.items())


def same(left: Node, right: Node) -> bool:
    """The two say the same: equal values, or the same length of time."""
    if left.plain() == right.plain():
        return True
    if isinstance(left.value, (dict, list)) or isinstance(right.value, (dict, list)):
        return False
    duration = seconds(left.value)
    return duration is not None and duration == seconds(right.value)


def _times(node: Node, factor: Decimal) -> Node:
    """`node` in our unit; its text stays what was written."""
    if isinstance(node.value, bool) or not isinstance(node.value, (int, float)) or factor == 1:
        return node
    return dataclasses.replace(node, value=times(node.text, factor))


def _value(node: Node) -> str:
    if is_private(node.path):
        return "…"
    plain: Json = node.plain()
    if node.text and isinstance(plain, (int, float)) and not isinstance(plain, bool) and shown(plain) != node.text:
        return f"{node.text} (that is {shown(plain)})"
    return shown(plain)
