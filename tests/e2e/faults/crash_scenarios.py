"""What the daemon is killed in: each a way from one state of rest to another, on the real stack."""

from __future__ import annotations

from pathlib import Path

import docker

from tests.e2e.faults.crash_stack import CrashStack
from tests.e2e.stack import wait_for

LIMIT_S = 180.0
QUICK = "rollout: {steps: [{weight: 80, duration: 1s}], watch: %s, health_deadline: 30s}"
EVIDENCE = "  canary: {warmup_seconds: 1, min_evidence_seconds: 2, min_requests: 20}\n"


class Site:
    """One project, used for one run after another."""

    def __init__(self, folder: Path, engine: docker.DockerClient) -> None:
        self.stack = CrashStack(folder, engine)
        self.number = 1
        self.stack.write(self.manifest())

    def manifest(self, watch: str = "1s") -> str:
        return self.stack.manifest(EVIDENCE, service=f'version: "{self.version}"\n{QUICK % watch}')

    @property
    def version(self) -> str:
        return f"{self.number}.0.0"

    def next_version(self, watch: str = "1s") -> None:
        self.number += 1
        self.stack.write(self.manifest(watch))

    def ids(self, service: str | None = None) -> set[str]:
        return {str(container.id) for container in self.stack.containers(service)}

    def deploy(self) -> None:
        self.stack.start()
        wait_for("deployed", lambda: self.stack.rests(self.version), LIMIT_S)

    def in_phase(self, phase: str, weight: int | None = None) -> bool:
        seen = self.stack.last_cycle()
        return bool(seen) and bool(seen["phase"] == phase) and (weight is None or seen["weight"] == [weight])

    def says(self, *words: str) -> None:
        """An operator's word; it is the operator who says it again if the daemon died under it."""
        self.stack.run(*words)


class Scenario:
    """`prepare` leads to where it begins; `act` starts it; `is_done` is its right end."""

    name = ""
    has_traffic = True

    def open(self, site: Site) -> None:
        site.deploy()

    def prepare(self, site: Site) -> None:
        """What stands before the first effect."""

    def act(self, site: Site) -> None:
        raise NotImplementedError

    def is_done(self, site: Site) -> bool:
        raise NotImplementedError

    def keeps(self, site: Site) -> set[str]:
        """IDs of containers that the scenario must not touch."""
        return site.ids("nginx") | site.ids("opa")

    def wanted(self) -> list[str]:
        """The services of the containers that are there at the end."""
        return ["app", "nginx", "opa"]

    def close(self, site: Site) -> None:
        """Lead back to where the next run can begin."""


class FirstDeploy(Scenario):
    """A new project each time; traffic begins with the first answer."""

    name = "first deploy"
    has_traffic = False

    def open(self, site: Site) -> None:
        pass

    def act(self, site: Site) -> None:
        site.stack.start()

    def is_done(self, site: Site) -> bool:
        return site.stack.rests(site.version) and site.stack.answers(site.version)

    def keeps(self, site: Site) -> set[str]:
        return set()


class Update(Scenario):
    """Through a canary to its promotion, and the end of the watch."""

    name = "update"

    def act(self, site: Site) -> None:
        site.next_version()

    def is_done(self, site: Site) -> bool:
        return site.stack.rests(site.version)


class RollBack(Scenario):
    """An operator takes a canary back while it has 80 % of the requests."""

    name = "roll back"
    watch = "1s"
    before = ""
    stable: frozenset[str] = frozenset()

    def prepare(self, site: Site) -> None:
        self.before = self.before if site.number > 1 else site.version
        self.stable = frozenset(site.ids("app"))
        site.next_version(self.watch)
        self.reach(site)

    def reach(self, site: Site) -> None:
        wait_for("the canary's step", lambda: site.in_phase("analyzing", 80), LIMIT_S)

    def act(self, site: Site) -> None:
        site.says("rollback", "--reason", "a test")

    def is_done(self, site: Site) -> bool:
        if site.stack.rests(self.before) and site.ids("app") == self.stable:
            return True
        if site.stack.last_cycle() and not self._is_heard(site):
            site.says("rollback", "--reason", "a test")
        return False

    def _is_heard(self, site: Site) -> bool:
        phase: str = site.stack.last_cycle()["phase"]
        return phase not in ("analyzing", "promoting", "renewing", "watching")

    def keeps(self, site: Site) -> set[str]:
        return super().keeps(site) | self.stable


class Return(RollBack):
    """An operator wants the old release back after the promotion: its kept containers start again."""

    name = "return"
    watch = "300s"

    def reach(self, site: Site) -> None:
        wait_for("the watch", lambda: site.in_phase("watching") and site.stack.last_cycle()["is_idle"], LIMIT_S)

    def _is_heard(self, site: Site) -> bool:
        return bool(site.stack.last_cycle()["phase"] != "watching")


class Teardown(Scenario):
    """Everything of the project goes."""

    name = "teardown"
    has_traffic = False

    def act(self, site: Site) -> None:
        site.says("teardown")

    def is_done(self, site: Site) -> bool:
        seen = site.stack.last_cycle()
        if seen and seen["phase"] != "torn down":
            site.says("teardown")
        networks = site.stack.engine.networks.list(names=[f"{site.stack.project}-net"])
        is_over = bool(seen) and seen["phase"] == "torn down" and seen["is_idle"]
        return bool(is_over and not site.ids() and not networks)

    def keeps(self, site: Site) -> set[str]:
        return set()

    def wanted(self) -> list[str]:
        return []

    def close(self, site: Site) -> None:
        site.says("deploy")
        wait_for("deployed again", lambda: site.stack.rests(site.version), LIMIT_S)


SCENARIOS = {kind.name: kind for kind in (FirstDeploy, Update, RollBack, Return, Teardown)}
