"""A cycle: load, observe, evaluate, decide, render, plan, apply, record. Begin with `run_cycle` in run.py."""

from __future__ import annotations

from reconciler.cycle.memory import Memory, Setting
from reconciler.cycle.recording import flushed
from reconciler.cycle.run import look, preview, run_cycle

__all__ = ["Memory", "Setting", "flushed", "look", "preview", "run_cycle"]
