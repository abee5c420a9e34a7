"""A cycle while it is being written down."""

from __future__ import annotations

import dataclasses

from reconciler.core.desired import DesiredState
from reconciler.core.errors import Problem
from reconciler.core.observed import ObservedProxy, ObservedState
from reconciler.core.plan import Outcome, Plan, Result
from reconciler.core.record import Cycle, Trigger, Verdict
from reconciler.core.rollout import Decision, Release, Rollout
from reconciler.core.targets import Targets
from reconciler.core.words import Word
from reconciler.cycle.memory import Memory
from reconciler.measuring import Measured
from reconciler.ports import Loaded, Ports, ProbeTarget

SHOWN_KEPT = 7
"""How many configurations of nginx before the newest one are remembered: an older one does not run any more."""


_CUT_SHORT = Result(Outcome.SKIPPED, "the cycle ended before it")


class Notes:
    """A cycle being written down."""

    def __init__(self, memory: Memory, number: int, trigger: Trigger, ports: Ports) -> None:
        self.number, self.trigger = number, trigger
        self.started, self.at = ports.clock.timestamp(), ports.clock.monotonic()
        self.answered = dict(memory.answered)
        self.shown, self.ran = dict(memory.shown), memory.ran
        self.engines: frozenset[str] = frozenset()
        self.desired: DesiredState | None = None
        self.observed: ObservedState | None = None
        self.problems: tuple[Problem, ...] = ()
        self.verdicts: list[Verdict] = []
        self.decisions: tuple[Decision, ...] = ()
        self.plan = Plan()
        self.results: tuple[Result, ...] = ()
        self.errors: list[str] = []
        self.is_settled = True
        self.asked = ""
        self.is_intended = False
        self.is_recorded = True
        self.awaited: tuple[ProbeTarget, ...] = ()
        self.services: set[str] = set()
        self.wanted: dict[str, Release] = {}
        self.made_of: dict[str, tuple[str, str]] = {}
        self.words: tuple[Word, ...] = ()
        self.loaded: Loaded | None = None
        self.commit = memory.commit
        self.measured = Measured()

    @property
    def waits_for_the_manifest(self) -> bool:
        """What people ask for is still to be looked at: it was just written, or nobody could be asked about it."""
        is_judged = bool(self.problems) or any(verdict.domain == "admission" for verdict in self.verdicts)
        is_in_force = self.desired is not None and (not self.asked or self.is_let_in)
        return not self.is_settled or not (is_in_force or is_judged)

    @property
    def is_let_in(self) -> bool:
        """What was read is in force: the manifest, its env files and its policies."""
        return self.loaded is not None and self.loaded.desired is not None and self.loaded.desired == self.desired

    def traced(self, memory: Memory, force: DesiredState) -> Memory:
        """The memory with the commit that the manifest in force comes from, where this cycle has read that."""
        if self.loaded is not None and self.loaded.desired == force:
            self.commit = self.loaded.commit
        return dataclasses.replace(memory, commit=self.commit)

    def named(self, proxy: ObservedProxy) -> ObservedProxy:
        """The same nginx, with the addresses that it knows by its configuration, or may know where it does not say:
        then it runs the one that it last said, or a later one.
        """
        if proxy.live_hash is not None:
            self.ran = proxy.live_hash
            return dataclasses.replace(proxy, named=self.shown.get(proxy.live_hash))
        hashes = list(self.shown)
        since = hashes[hashes.index(self.ran) :] if self.ran in self.shown else hashes
        return dataclasses.replace(proxy, may_name=tuple(self.shown[hash_] for hash_ in since))

    def shows(self, proxy_hash: str, addresses: frozenset[str]) -> None:
        """nginx may run the configuration of that hash from now on: it names `addresses`."""
        kept = [hash_ for hash_ in self.shown if hash_ != proxy_hash][-SHOWN_KEPT:]
        self.shown = {hash_: self.shown[hash_] for hash_ in kept} | {proxy_hash: addresses}

    def saw(
        self,
        desired: DesiredState,
        observed: ObservedState,
        decisions: tuple[Decision, ...],
        plan: Plan,
        targets: Targets,
    ) -> None:
        """What the cycle decided by, and what it is about to do."""
        self.wanted = dict(targets.wanted)
        self.made_of = {k.revision: (k.service.image, k.service.version) for k in targets.kept.values()}
        self.desired, self.observed, self.decisions, self.plan = desired, observed, decisions, plan

    def cycle(self, rollout: Rollout, ports: Ports) -> Cycle:
        """The cycle as it ends now; what of its plan was not reached counts as skipped."""
        return Cycle(
            number=self.number,
            trigger=self.trigger,
            started=self.started,
            ended=ports.clock.timestamp(),
            duration_ms=(ports.clock.monotonic() - self.at) * 1000,
            desired=self.desired,
            observed=self.observed,
            rollout=rollout,
            problems=self.problems,
            verdicts=(*self.verdicts, *self.measured.verdicts.values()),
            decisions=self.decisions,
            plan=self.plan,
            results=self.results or tuple(_CUT_SHORT for _ in self.plan.steps),
            errors=(*self.errors, *filter(None, [self.measured.trouble])),
            is_settled=self.is_settled,
            asked=self.asked,
            is_let_in=self.is_let_in,
            words=self.words,
            measured=self.measured.summaries,
            judged=self.measured.verdicts,
            wanted=self.wanted,
            made_of=self.made_of,
            commit=self.commit,
            trouble=self.loaded.trouble if self.loaded is not None else (),
        )
