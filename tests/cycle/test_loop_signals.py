"""A signal may come at any moment, also while the loop has its hands on what the signal's handler needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# Thousands of signals, each of which wakes the loop, while it does nothing but look who woke it.
STORM = """
import signal
from reconciler.core.record import Trigger
from reconciler.loop import Loop
from tests.cycle.cycle_world import World

loop = Loop(World().ports, None, None, lambda cycle: None)
came = 0

def handler(number, frame):
    global came
    came += 1
    loop.wake(Trigger("signal", "SIGHUP"))

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
woken = 0
while came < 5000:
    woken += sum(wake.trigger.kind == "signal" for wake in loop._next_wakes(0.0001))
signal.setitimer(signal.ITIMER_REAL, 0)
woken += sum(wake.trigger.kind == "signal" for wake in loop._next_wakes(0.0))
assert woken == came, (woken, came)
"""


def test_no_signal_finds_the_loop_unable_to_hear_it() -> None:
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", STORM], cwd=root, timeout=60, check=True, env={"PYTHONPATH": str(root)})


# Somebody presses Ctrl-C again and again: the handler is interrupted by itself.
IMPATIENT = """
import signal
from reconciler.loop import Loop
from tests.cycle.cycle_world import World

loop = Loop(World().ports, None, None, lambda cycle: None)
came = 0

def handler(number, frame):
    global came
    came += 1
    loop.stop()

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
while came < 20000:
    loop.stop()
signal.setitimer(signal.ITIMER_REAL, 0)
"""


def test_a_stop_that_is_asked_for_twice_at_once_is_heard() -> None:
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", IMPATIENT], cwd=root, timeout=60, check=True, env={"PYTHONPATH": str(root)})
