"""What is done to the stack: a seeded sequence of rollouts, edits, operators' words and accidents."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.e2e.rollout_stack import variant
from tests.soak.site import Site, until

LIMIT_S = 300.0
PAUSE_S = 12.0
"""At most so long nothing happens between two operations; on the average half of it."""
BROKEN = ("services: [", "services:\n  image: x\n", "", "\x00", "services: {port: 99999999}\n", "- 1\n- 2\n")
BAD_KINDS = ("errors", "errors", "errors", "crash", "unhealthy", "slow")


@dataclass(frozen=True)
class Done:
    """One operation: what it was, how it ended, and what is wrong with that ("" when nothing)."""

    what: str
    end: str
    took_s: float
    trouble: str = ""


class Operations:
    """`one()` does the next one and waits until the stack is at rest again; never raises for what the stack does."""

    def __init__(self, site: Site, seed: int) -> None:
        self.site = site
        self.random = random.Random(seed)
        self.may_kill = True
        self._word = 0

    def one(self) -> Done:
        names = ["healthy"] * 5 + ["bad"] * 4 + ["env", "memory", "comment", "replicas", "limit", "broken"]
        names += ["kill", "kill_opa", "hup", "words"]
        name = self.random.choice([*names, *["kill"] * 6] if self.may_kill else names)
        time.sleep(self.random.uniform(0, PAUSE_S))
        began = time.monotonic()
        try:
            what, end = getattr(self, f"_{name}")()
            trouble = ""
        except AssertionError as error:  # something that was to come did not
            what, end, trouble = name, "not at rest", str(error)
        if self.site.daemon is None:
            self.site.begin()
        elif self.site.daemon.poll() is not None:
            trouble += f" the daemon ended by itself, code {self.site.daemon.returncode}"
            self.site.begin()
        return Done(what, end, time.monotonic() - began, trouble)

    # -------------------------------------------------------- rollouts

    def _healthy(self) -> tuple[str, str]:
        return self._rollout("healthy", image=variant("healthy"), version=self.site.wish.version + 1)

    def _env(self) -> tuple[str, str]:
        return self._rollout("another environment", image=variant("healthy"), word=self._new_word())

    def _memory(self) -> tuple[str, str]:
        other = 192 if self.site.wish.memory_mb == 128 else 128
        return self._rollout(f"memory {other}m", image=variant("healthy"), memory_mb=other)

    def _bad(self) -> tuple[str, str]:
        kind = self.random.choice(BAD_KINDS)
        # Of another word each time: what was rolled back once is not tried again.
        good = self.site.wish
        told = self._rollout(kind, image=variant(kind), word=self._new_word())
        # The manifest asks for what runs again, with the word of its own: a wish as it was before is no rollout.
        self.site.wanted(image=good.image, word=good.word)
        self._rest("the old wish again")
        return told

    def _new_word(self) -> int:
        self._word += 1
        return self._word

    def _rollout(self, what: str, **changes: Any) -> tuple[str, str]:
        """Write it, disturb it while its canary has a share, and wait for the end."""
        site, is_bad = self.site, what in BAD_KINDS
        before, quarantined = site.service()["revision"], site.service()["quarantined"]
        site.wanted(**changes)
        until("its begin", lambda: site.service()["rollout"] or self._is_over(before, quarantined), LIMIT_S)
        disturbance = self.random.choice(self._disturbances(is_bad))
        disturbance_name = disturbance.__name__.strip("_") if disturbance else "undisturbed"
        if disturbance is not None:
            if what not in ("crash", "unhealthy"):
                until("a share", lambda: self._has_share() or self._is_over(before, quarantined), LIMIT_S)
            time.sleep(self.random.uniform(0, 6))
            disturbance()

        def over() -> str:
            return self._is_over(before, quarantined) and self._end(before)

        end = str(until(f"the end of {what}, {disturbance_name}", over, LIMIT_S))
        accidents = ("remove_canary",)
        wanted = "rolled back" if is_bad else "promoted"
        if end != wanted and disturbance_name not in accidents:
            reason = site.service()["reason"]
            raise AssertionError(f"{what}, {disturbance_name}: {end}, not {wanted}: {reason}")
        return f"{what}, {disturbance_name}", end

    def _has_share(self) -> bool:
        return bool((self.site.service()["rollout"] or {}).get("weight"))

    def _is_over(self, before: str, quarantined: list[Any]) -> bool:
        """Another revision is stable, or another was given up (a list of limited length: its length says nothing)."""
        status = self.site.status()
        service = status["services"][0]
        is_other = service["revision"] != before or service["quarantined"] != quarantined
        return bool(
            service["phase"] == "stable"
            and is_other
            and status["state"] in ("converged", "blocked", "degraded")
            and service["ready"] == service["wanted"]
        )

    def _end(self, before: str) -> str:
        return "promoted" if self.site.service()["revision"] != before else "rolled back"

    # -------------------------------------------------------- what comes in between

    def _disturbances(self, is_bad: bool) -> list[Callable[[], None] | None]:
        """An operator promotes no bad release here: after that nothing is proven for half an hour."""
        always: list[Callable[[], None] | None] = [None, None, None]
        always += [self._opa_dies, self._remove_canary, self._hang_up, self._pause_resume, self._suspend_resume]
        always += [] if is_bad else [self._promote]
        return [*always, *[self._daemon_dies] * 8] if self.may_kill else always

    def _daemon_dies(self) -> None:
        self.site.die()
        time.sleep(self.random.uniform(0, 4))
        self.site.begin()

    def _opa_dies(self) -> None:
        for container in self.site.containers("opa"):
            if container.status == "running":
                container.kill()

    def _remove_canary(self) -> None:
        canaries = [c for c in self.site.containers("app") if c.labels.get("io.swiftdeploy.mode") == "canary"]
        for container in canaries[:1]:
            self.site.take_away(container)

    def _hang_up(self) -> None:
        assert self.site.daemon is not None
        self.site.daemon.send_signal(signal.SIGHUP)

    def _pause_resume(self) -> None:
        self.site.run("pause", "--reason", "soak")
        time.sleep(self.random.uniform(0, 5))
        self.site.run("resume")

    def _promote(self) -> None:
        self.site.run("promote", "--reason", "soak")

    def _suspend_resume(self) -> None:
        self.site.run("suspend", "--reason", "soak")
        time.sleep(self.random.uniform(0, 5))
        self.site.run("resume")

    # -------------------------------------------------------- at rest

    def _comment(self) -> tuple[str, str]:
        self.site.wanted(comment=self.site.wish.comment + 1)
        return "a comment", self._rest("a comment")

    def _limit(self) -> tuple[str, str]:
        self.site.wanted(p99_ms=450 if self.site.wish.p99_ms == 500 else 500)
        return f"policy limit {self.site.wish.p99_ms} ms", self._rest("a limit")

    def _replicas(self) -> tuple[str, str]:
        wanted = 3 - self.site.wish.replicas
        self.site.wanted(replicas=wanted)
        until(f"{wanted} replicas", lambda: self.site.service()["wanted"] == wanted, LIMIT_S)
        return f"{wanted} replicas", self._rest("replicas")

    def _broken(self) -> tuple[str, str]:
        self.site.write(self.random.choice(BROKEN))
        until("the broken manifest is said", lambda: not self.site.status()["manifest"]["valid"], LIMIT_S)
        time.sleep(self.random.uniform(0, 5))
        self.site.wanted()
        until("a valid one again", lambda: self.site.status()["manifest"]["valid"], LIMIT_S)
        return "broken manifest", self._rest("mended")

    def _kill(self) -> tuple[str, str]:
        if not self.may_kill:
            return "a moment of rest", self._rest("rest")
        self._daemon_dies()
        return "daemon killed at rest", self._rest("after a kill")

    def _kill_opa(self) -> tuple[str, str]:
        self._opa_dies()
        return "OPA killed at rest", self._rest("after OPA's death")

    def _hup(self) -> tuple[str, str]:
        self._hang_up()
        return "SIGHUP", self._rest("hup")

    def _words(self) -> tuple[str, str]:
        self._pause_resume()
        self._suspend_resume()
        self.site.run("reconcile", timeout_s=LIMIT_S)
        return "pause, resume, suspend, resume, reconcile", self._rest("words")

    def _rest(self, what: str) -> str:
        """At rest, as the wish says."""
        seen = self.site.status()["last_cycle"]["number"]

        def rests() -> bool:
            status = self.site.status()
            service = status["services"][0]
            return bool(
                status["last_cycle"]["number"] >= seen + 2
                and status["state"] == "converged"
                and service["phase"] == "stable"
                and service["ready"] == service["wanted"] == self.site.wish.replicas
                and status["opa"]["ready"]
            )

        until(f"rest after {what}", rests, LIMIT_S)
        return "at rest"
