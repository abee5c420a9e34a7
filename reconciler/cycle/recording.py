"""What is written down: every cycle that says something new, and the others merged."""

from __future__ import annotations

import dataclasses

from reconciler.core.desired import Mode
from reconciler.core.errors import StateError
from reconciler.core.record import Cycle
from reconciler.cycle.memory import Memory
from reconciler.cycle.notes import Notes
from reconciler.formats import cycle_record
from reconciler.formats.history import IdleRun
from reconciler.ports import Ports

JUDGED_RECORD_S = 10.0
"""How often a trial is written down at least, while nothing but its numbers changes."""


KEPT_RECORD_S = 60.0
"""The same for a canary that the manifest keeps, maybe for days."""


def append(ports: Ports, record: cycle_record.Record, notes: Notes) -> bool:
    """The record is on disk; where it is not, the cycle says why."""
    trouble = _try_append(ports, record)
    if trouble:
        notes.errors.append(trouble)
    return not trouble


def write_down(ports: Ports, memory: Memory, cycle: Cycle, *, is_intended: bool) -> Memory:
    """Write the cycle down; one that says nothing new joins the run of idle ones, to be written as one record."""
    record, voice = cycle_record.finished(cycle), cycle_record.voice(cycle)
    is_news = is_intended or voice != memory.voice or cycle_record.changed_the_world(cycle)
    now = ports.clock.monotonic()
    is_news = is_news or (bool(cycle.judged) and now - memory.recorded_at >= _judged_record_s(cycle))
    if not is_news and (memory.idle is None or memory.idle.fits(record)):
        idle = memory.idle.add(record) if memory.idle else IdleRun.start(record)
        return dataclasses.replace(memory, idle=idle)
    memory = flushed(ports, memory)
    _try_append(ports, record)
    return dataclasses.replace(memory, voice=voice, recorded_at=now)


def _judged_record_s(cycle: Cycle) -> float:
    """The time between two records of a trial in which nothing is decided, in seconds."""
    is_kept = any(release.mode is Mode.CANARY for release in cycle.wanted.values())
    return KEPT_RECORD_S if is_kept else JUDGED_RECORD_S


def flushed(ports: Ports, memory: Memory) -> Memory:
    """Write the run of idle cycles down, if there is one."""
    if memory.idle is not None:
        _try_append(ports, {"timestamp": ports.clock.timestamp(), **memory.idle.record()})
    return dataclasses.replace(memory, idle=None)


def _try_append(ports: Ports, record: cycle_record.Record) -> str:
    """Append; a record that cannot be written now waits in the history's own queue. The trouble, or ""."""
    try:
        ports.history.append(record)
    except StateError as error:
        return str(error)
    return ""
