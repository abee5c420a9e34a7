"""Feeds a target with inputs for as long as asked, and tells of every one that got through.

An escape is what a parser must never let happen: an exception that it does not declare, more than `SLOWEST_S` of
processor time, more than `HIGHEST_BYTES` of memory more than before. An input with an outcome that was not seen before
(another message, another kind of answer) becomes a seed of its own.
"""

from __future__ import annotations

import random
import re
import resource
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from tests.fuzz.mutate import Mutator

SLOWEST_S = 1.0
GIVEN_UP_S = 5.0
HIGHEST_BYTES = 200 * 2**20
SEEDS_KEPT = 1500
LOOKED_AT_TOGETHER = 50
"""Inputs, for the memory that they take."""


@dataclass(frozen=True)
class Target:
    """A parser: `run` gives a short word for its outcome, or raises one of `declared`.

    What `run` asserts of an answer is part of the promise: an assertion that fails is an escape.
    """

    name: str
    about: str
    run: Callable[[bytes], object]
    seeds: Callable[[], Sequence[bytes]]
    declared: tuple[type[Exception], ...] = ()
    words: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Escape:
    """An input that got through, and how."""

    target: str
    how: str
    data: bytes


@dataclass
class Account:
    """What a run came to."""

    target: str
    executions: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    escapes: list[Escape] = field(default_factory=list)

    def add(self, other: Account) -> None:
        self.executions += other.executions
        self.seconds = max(self.seconds, other.seconds)
        self.outcomes += other.outcomes
        known = {escape.how for escape in self.escapes}
        self.escapes += [escape for escape in other.escapes if escape.how not in known]


class _TooLong(BaseException):
    """Raised out of a parser that would not come back."""


def fuzz(target: Target, runs: int, seed: int, limit_s: float | None = None) -> Account:
    """Feed `runs` inputs, fewer where `limit_s` is over first; the same seed feeds the same ones."""
    chance = random.Random(f"{target.name}/{seed}")
    pool = list(target.seeds())
    mutator = Mutator(chance, target.words)
    account = Account(target.name)
    started = time.monotonic()
    recent: list[bytes] = []
    _forget_peak()
    before = _peak_bytes()
    with _alarm():
        for data in _inputs(pool, mutator, chance, runs):
            outcome = _tried(target, data, account)
            recent.append(data)
            if len(recent) == LOOKED_AT_TOGETHER:
                before = _weighed(target, recent, before, account)
                recent.clear()
            if not account.outcomes[outcome] and len(pool) < SEEDS_KEPT:
                pool.append(data)
            account.outcomes[outcome] += 1
            account.executions += 1
            if limit_s is not None and time.monotonic() - started > limit_s:
                break
        _weighed(target, recent, before, account)
    account.seconds = time.monotonic() - started
    return account


def _weighed(target: Target, recent: Sequence[bytes], before: int, account: Account) -> int:
    """The peak of memory after `recent` in bytes; where it rose by too much, the input that did it has escaped.

    To ask for the peak costs as much as many a parser takes for a whole input, so it is asked for many of them.
    """
    if _peak_bytes() - before <= HIGHEST_BYTES:
        return _peak_bytes()
    for data in recent:
        _forget_peak()
        before = _peak_bytes()
        _tried(target, data, Account(target.name))
        if _peak_bytes() - before > HIGHEST_BYTES:
            account.escapes.append(Escape(target.name, f"memory: more than {HIGHEST_BYTES >> 20} MB", data))
            break
    _forget_peak()
    return _peak_bytes()


def _inputs(pool: list[bytes], mutator: Mutator, chance: random.Random, runs: int) -> Iterator[bytes]:
    """Every seed as it is, then mutations of what has been found worth keeping."""
    first = list(pool)
    yield from first[:runs]
    for _ in range(runs - len(first)):
        yield mutator.mutated(chance.choice(pool), chance.choice(pool))


def _tried(target: Target, data: bytes, account: Account) -> str:
    """A word for the outcome; escapes go to the account, each kind of them once."""
    started = time.process_time()
    try:
        outcome = f"ok {_template(str(target.run(data)))}"
    except target.declared as error:
        outcome = f"{type(error).__name__} {_template(str(error))}"
    except (_TooLong, Exception) as error:  # noqa: BLE001  whatever it is, it got out
        outcome = f"ESCAPE {type(error).__name__} {_where(error)}"
    if (took := time.process_time() - started) > SLOWEST_S and not outcome.startswith("ESCAPE"):
        outcome = f"ESCAPE slow: more than {SLOWEST_S:g} s of processor time"
        if _again(target, data) <= SLOWEST_S:
            outcome = f"ok but slow once ({took:.0f} s)"
    if outcome.startswith("ESCAPE") and outcome not in account.outcomes:
        account.escapes.append(Escape(target.name, outcome, data))
    return outcome


def _again(target: Target, data: bytes) -> float:
    """Seconds of processor time of a second try: a busy host can make anything slow once."""
    started = time.process_time()
    try:
        target.run(data)
    except (_TooLong, Exception):  # noqa: BLE001  only the time matters here
        return time.process_time() - started
    return time.process_time() - started


def escape_of(target: Target, data: bytes) -> str:
    """How `data` gets through, "" where it does not: for inputs that once did."""
    account = Account(target.name)
    _forget_peak()
    before = _peak_bytes()
    with _alarm():
        _tried(target, data, account)
        _weighed(target, [data], before, account)
    return account.escapes[0].how if account.escapes else ""


@contextmanager
def _alarm() -> Iterator[None]:
    """A clock of processor time that ends what takes GIVEN_UP_S; it is set anew every tenth of that."""
    last: list[Any] = [None, 0]

    def ring(_number: int, frame: FrameType | None) -> None:
        call = _call_of(frame)
        last[:] = [call, last[1] + 1 if call is not None and call is last[0] else 0]
        if last[1] >= 10:
            raise _TooLong(f"did not come back within {GIVEN_UP_S:g} s")

    old = signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, GIVEN_UP_S / 10, GIVEN_UP_S / 10)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, old)


def _call_of(frame: FrameType | None) -> FrameType | None:
    """The frame of the one try that is under way."""
    while frame is not None and frame.f_code is not _tried.__code__:
        frame = frame.f_back
    return frame


def _forget_peak() -> None:
    """From now on the peak is that of what comes now (Linux; elsewhere it is the process's)."""
    with suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as peak:
        peak.write("5")


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


_VARIES = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|[0-9a-f]{12,}|[0-9]+|\S*[^\x20-\x7e]\S*|\S{25,}')


def _template(message: str) -> str:
    """A message without what differs from input to input."""
    return _VARIES.sub("#", message[:300])[:120]


def _where(error: BaseException) -> str:
    """The place in our own code where an exception came out."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/reconciler/" in frame.filename] or frames
    last = ours[-1]
    return f"{last.filename.rpartition('/reconciler/')[2]}:{last.lineno} {_template(str(error))}"
