"""When the loop counts as alive: time that is promised or spent on a disk is not silence."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.heartbeat import Heart, Pulse, seen_by, waits_for_disk
from reconciler.ports import Ports


class World:
    """A clock that somebody moves, and a disk that is slow or not."""

    def __init__(self) -> None:
        self.now = 100.0
        self.disk_is_slow = False
        self.pulse = Pulse(lambda: self.now, lambda: self.disk_is_slow)

    def after(self, seconds: float, look_every_s: float = 1000.0) -> float:
        """How long the loop is silent once that much time has passed."""
        self.now += seconds
        return self.pulse.silent_s(look_every_s)


@pytest.fixture
def world() -> World:
    return World()


def test_silence_is_the_time_since_the_last_sign(world: World) -> None:
    assert world.after(7) == 7
    assert world.after(5) == 12
    world.pulse.got_on()
    assert world.after(3) == 3


def test_promised_rest_is_no_silence_but_what_comes_after_it_is(world: World) -> None:
    world.pulse.rest(15)
    assert world.after(15) == 0
    assert world.after(4) == 4


def test_work_after_a_rest_cut_short_counts_at_once(world: World) -> None:
    world.pulse.rest(15)
    world.after(2)
    world.pulse.got_on()
    assert world.after(6) == 6


@pytest.mark.fault("C12")
def test_time_spent_waiting_for_a_disk_is_no_silence(world: World) -> None:
    assert world.after(10) == 10
    world.disk_is_slow = True
    for _ in range(100):
        assert world.after(10) == 10
    world.disk_is_slow = False
    assert world.after(10) == 20


def test_a_disk_that_was_slow_long_ago_excuses_nothing(world: World) -> None:
    world.disk_is_slow = True
    world.after(50)
    world.disk_is_slow = False
    assert world.after(30) == 30


@pytest.mark.fault("A9")
def test_time_in_which_nobody_could_look_is_no_silence(world: World) -> None:
    """The process was frozen: a sleeping laptop, a paused virtual machine, SIGSTOP."""
    assert world.after(10, look_every_s=10) == 10
    assert world.after(3600, look_every_s=10) == 30
    assert world.after(10, look_every_s=10) == 40


def test_a_late_look_is_no_credit_for_what_comes(world: World) -> None:
    world.pulse.rest(100)
    assert world.after(90, look_every_s=10) == 0
    assert world.after(20, look_every_s=10) == 10


@pytest.mark.fault("A10")
def test_a_heart_beats_until_the_loop_is_silent_for_too_long(world: World) -> None:
    told, ended = threading.Semaphore(0), threading.Event()
    silences: list[float] = []

    def hung(silent_s: float) -> None:
        silences.append(silent_s)
        ended.set()

    heart = Heart(world.pulse, told.release, hung, every_s=0.001, limit_s=0.06)
    heart.start()
    for _ in range(5):
        assert told.acquire(timeout=30)
    while not ended.is_set():
        world.now += 0.001
        told.acquire(timeout=0.01)
    assert silences[0] >= 0.06
    heart.stop()


def test_a_heart_that_is_stopped_beats_no_more(world: World) -> None:
    heart = Heart(world.pulse, lambda: None, lambda _s: None, every_s=3600, limit_s=7200)
    heart.start()
    heart.stop()
    assert not any(thread.name == "heart" for thread in threading.enumerate())


class Port:
    """Any port: an attribute, a method, one that fails, and one that answers bit by bit."""

    kept = 7

    def ask(self, a: int, *, b: int = 0) -> int:
        return a + b

    def fail(self) -> None:
        raise OSError("no")

    def stream(self) -> Iterator[int]:
        yield from (1, 2)


def test_every_call_of_a_port_is_a_sign_before_and_after() -> None:
    signs: list[int] = []
    names = [name for name in Ports.__slots__ if name != "instance"]
    given: dict[str, Any] = {name: Port() for name in names}
    seen: Any = seen_by(lambda: signs.append(1), Ports(**given, instance="i"))
    assert (seen.runtime.ask(1, b=2), seen.runtime.kept, seen.instance) == (3, 7, "i")
    assert len(signs) == 2
    with pytest.raises(OSError, match="no"):
        seen.history.fail()
    assert len(signs) == 4
    assert list(seen.runtime.stream()) == [1, 2]
    assert seen.clock is given["clock"]


def test_a_thread_that_waits_for_a_disk_is_seen(tmp_path: Path) -> None:
    for thread, stat in (("7", "7 (a) b) S 1 1"), ("8", "8 (x D y) D 1 1")):
        (tmp_path / thread).mkdir()
        (tmp_path / thread / "stat").write_text(stat)
    assert waits_for_disk(tmp_path)
    (tmp_path / "8" / "stat").write_text("8 (x D y) R 1 1")
    assert not waits_for_disk(tmp_path)
    assert not waits_for_disk(tmp_path / "nothing")
