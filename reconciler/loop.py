"""Cycle after cycle: what wakes the next one, and who is told how it went.

The same loop serves the daemon, where it turns for ever in a thread of its own, and a command without a daemon,
which turns it by hand. Wake-ups are hints and are coalesced; a timer makes up for those that get lost.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from reconciler.core.observed import Health
from reconciler.core.plan import HARMLESS, Outcome, WaitHealthy
from reconciler.core.record import Cycle, Trigger
from reconciler.core.words import LookAgain, Word
from reconciler.cycle import Memory, Setting, flushed, run_cycle
from reconciler.ports import Ports

IDLE_S = 15.0
BUSY_S = 5.0
ROLLOUT_S = 2.5
"""While a canary is judged: two looks that see errors are needed before one is rolled back."""
PATIENCE_S = 10.0
"""How long a wait is looked at every 50 ms; after that, more and more rarely."""
SLOWEST_LOOK_S = 2.0
UNSETTLED_S = 0.1
HEALTH_S = 0.5
BUSY_TURNS = 30
"""Cycles in a row that may each do something before we suspect that somebody undoes it."""
IDLE_RECORD_S = 300.0
"""How often a run of idle cycles is written down: a crash loses at most the count of the last five minutes."""


@dataclass(frozen=True, slots=True)
class Wake:
    """One reason to look again, with what an operator said, if anybody did."""

    trigger: Trigger
    word: Word = field(default_factory=LookAgain)


Heard: TypeAlias = tuple[Cycle, list[Wake]]
"""A finished cycle and what woke it."""


class Loop:
    """Runs cycles one at a time. Everything public may be called from any thread, but `turn` from one only."""

    def __init__(self, ports: Ports, setting: Setting, memory: Memory, finished: Callable[[Cycle], None]) -> None:
        self.ports = ports
        self.setting = setting
        self.memory = memory
        self.latest: Cycle | None = None
        self._finished = finished
        self._inbox: queue.SimpleQueue[Wake] = queue.SimpleQueue()  # signal handlers put into it
        self._listeners: list[queue.Queue[Heard]] = []
        self._lock = threading.Lock()
        self._is_stopping = False  # no Event: a handler that interrupts another one would wait for its lock for ever
        self._waiting_since: float | None = None
        self._idle_since = ports.clock.monotonic()
        self._busy_turns = 0
        self._turned_at = ports.clock.monotonic()
        self._through = ports
        self.turns_itself = False

    def wake(self, trigger: Trigger, word: Word | None = None) -> None:
        """Look again soon; returns at once."""
        self._inbox.put(Wake(trigger, word or LookAgain()))

    def look_soon(self, oldest_s: float) -> None:
        """Look again now if the last cycle is older than that and nobody asked for another one yet."""
        if self._inbox.empty() and self.ports.clock.monotonic() - self._turned_at > oldest_s:
            self.wake(Trigger("interval", "somebody looks"))

    def stop(self) -> None:
        """End `turn_for_ever` after the cycle under way."""
        self._is_stopping = True
        self.wake(Trigger("signal", "stop"))

    def has_wakes(self) -> bool:
        """Whether somebody asked for another look since the last cycle began."""
        return not self._inbox.empty()

    def turn_for_ever(
        self, beat: Callable[[], None], through: Ports | None = None, rest: Callable[[float], None] = lambda _s: None
    ) -> None:
        """Cycles until `stop`; `beat` is called after each one, and `rest` with the seconds it will sleep at most.

        The cycles go `through` these ports, where somebody wants to see each of their calls.
        """
        self.turns_itself = True
        self._through = through or self.ports
        wakes = [Wake(Trigger("start"))]
        while not self._is_stopping:
            self.turn(wakes)
            beat()
            delay_s = self.delay_s()
            rest(max(delay_s, HEALTH_S))
            wakes = self._next_wakes(delay_s)
        self.memory = flushed(self._through, self.memory)

    def turn(self, wakes: list[Wake]) -> Cycle:
        """One cycle for all of `wakes`."""
        words = [wake.word for wake in wakes if not isinstance(wake.word, LookAgain)]
        cycle, memory = run_cycle(self._through, self.setting, self.memory, _loudest(wakes), words)
        self.memory = memory
        self.latest = cycle
        self._turned_at = self.ports.clock.monotonic()
        self._note_waiting(cycle)
        self._flush_idle()
        self._finished(cycle)
        with self._lock:
            for listener in self._listeners:
                listener.put((cycle, wakes))
        return cycle

    def follow(self, trigger: Trigger, word: Word) -> Iterator[Cycle | None]:
        """Cycles from the one that hears `word` on; None now and then while there is none. Ends with its reader.

        In a process without a turning loop, the reader turns it.
        """
        if not self.turns_itself:
            yield from self._turned_by_hand(trigger, word)
            return
        with self._listening() as heard:
            mine, is_heard = Wake(trigger, word), False
            self._inbox.put(mine)
            while not self._is_stopping:
                try:
                    cycle, wakes = heard.get(timeout=1.0)
                except queue.Empty:
                    yield None
                    continue
                is_heard = is_heard or any(wake is mine for wake in wakes)
                if is_heard:
                    yield cycle

    def _turned_by_hand(self, trigger: Trigger, word: Word) -> Iterator[Cycle | None]:
        wakes = [Wake(trigger, word)]
        while True:
            yield self.turn(wakes)
            wakes = self._next_wakes(min(self.delay_s(), 1.0))

    @contextmanager
    def _listening(self) -> Iterator[queue.Queue[Heard]]:
        heard: queue.Queue[Heard] = queue.Queue()
        with self._lock:
            self._listeners.append(heard)
        try:
            yield heard
        finally:
            with self._lock:
                self._listeners.remove(heard)

    def delay_s(self) -> float:
        """How long to sleep if nothing wakes us."""
        cycle = self.latest
        if cycle is None:
            return 0.0
        if not cycle.is_settled:
            return UNSETTLED_S
        calm = BUSY_S if cycle.plan or cycle.errors or any(d.reason for d in cycle.decisions) else IDLE_S
        calm = ROLLOUT_S if cycle.judged else calm
        if _moved_on(cycle):
            return min(SLOWEST_LOOK_S, 0.05 * max(0, self._busy_turns - BUSY_TURNS))
        if cycle.look_again_s is None:
            return calm
        waited = self.ports.clock.monotonic() - (self._waiting_since or 0.0)
        patient = cycle.look_again_s if waited < PATIENCE_S else min(SLOWEST_LOOK_S, waited / 20)
        return min(calm, max(cycle.look_again_s, patient))

    def _note_waiting(self, cycle: Cycle) -> None:
        """Remember since when nothing but waits is left, and how many cycles in a row did something."""
        self._busy_turns = self._busy_turns + 1 if _moved_on(cycle) else 0
        if cycle.look_again_s is None or cycle.did_something or cycle.moved:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = self.ports.clock.monotonic()

    def _flush_idle(self) -> None:
        now = self.ports.clock.monotonic()
        if self.memory.idle is None:
            self._idle_since = now
        elif now - self._idle_since > IDLE_RECORD_S:
            self.memory = flushed(self._through, self.memory)
            self._idle_since = now

    def _awaited(self, delay_s: float) -> Wake:
        """The next wake; raises queue.Empty once the delay is over, or a container that was waited for is ready.

        While nothing but health is waited for, only that is asked for every `delay_s`, and a whole cycle looks at
        everything once in `HEALTH_S`.
        """
        targets = self.memory.awaited if self._waits_for_health_only() else ()
        end = self.ports.clock.monotonic() + (max(delay_s, HEALTH_S) if targets else delay_s)
        while targets and (left := end - self.ports.clock.monotonic()) > 0:
            try:
                return self._inbox.get(timeout=min(left, delay_s))
            except queue.Empty:
                health = self._through.prober.probe(targets)
                if any(found is Health.READY for found, _ in health.values()):
                    raise
        return self._inbox.get(timeout=max(0.0, end - self.ports.clock.monotonic()))

    def _waits_for_health_only(self) -> bool:
        cycle = self.latest
        if cycle is None or _moved_on(cycle):
            return False
        return all(
            isinstance(step.action, WaitHealthy) or result.outcome is Outcome.SKIPPED
            for step, result in zip(cycle.plan.steps, cycle.results, strict=True)
        )

    def _next_wakes(self, delay_s: float) -> list[Wake]:
        """Sleep until something wakes us or `delay_s` is over; all that came meanwhile counts as one."""
        wakes = []
        try:
            wakes.append(self._awaited(delay_s) if delay_s > 0 else self._inbox.get_nowait())
            while True:
                wakes.append(self._inbox.get_nowait())
        except queue.Empty:
            pass
        return wakes or [Wake(Trigger("interval" if delay_s >= BUSY_S else "pending"))]


def _moved_on(cycle: Cycle) -> bool:
    """The world is not as the cycle saw it: worth another look at once."""
    return cycle.moved or any(
        result.outcome.moves_on and not isinstance(step.action, HARMLESS)
        for step, result in zip(cycle.plan.steps, cycle.results, strict=True)
    )


_LOUDNESS = ("pending", "interval", "engine", "start", "manifest", "git", "signal", "operator")


def _loudest(wakes: list[Wake]) -> Trigger:
    """The trigger a person would name if asked why this cycle ran."""
    return max((wake.trigger for wake in wakes), key=lambda trigger: _LOUDNESS.index(trigger.kind))
