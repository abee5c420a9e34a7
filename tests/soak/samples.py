"""What the daemon takes of the host, sampled while it lives, and whether that grows."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

LEAST_SAMPLES = 30
"""Below that (5 minutes at one in 10 s) nothing is said about growth."""
WARM_UP_S = 120.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a daemon: `age_s` since it was started; the containers are all of its project's."""

    pid: int
    age_s: float
    rss_mb: float
    descriptors: int
    threads: int
    state_mb: float
    state_files: int
    containers: int


@dataclass(frozen=True, slots=True)
class Growth:
    """Medians of the first and the last third of one daemon's samples, after its warm-up."""

    first: float
    last: float
    per_hour: float
    span_s: float

    @property
    def more(self) -> float:
        return self.last - self.first


def look(pid: int, age_s: float, state: Path, containers: int) -> Sample:
    """Raises FileNotFoundError (or ProcessLookupError) when that process is no more."""
    told = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    if told["State"].split()[0] == "Z":
        raise ProcessLookupError(pid)
    size, files = _size(state)
    return Sample(
        pid,
        age_s,
        int(told["VmRSS"].split()[0]) / 1024,
        len(os.listdir(f"/proc/{pid}/fd")),
        int(told["Threads"]),
        size / 2**20,
        files,
        containers,
    )


def _size(folder: Path) -> tuple[int, int]:
    size, files = 0, 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                size += os.lstat(os.path.join(where, name)).st_blocks * 512
                files += 1
            except FileNotFoundError:
                continue
    return size, files


def longest_life(samples: Sequence[Sample]) -> list[Sample]:
    """Of the daemon that lived longest, after its warm-up."""
    lives: dict[int, list[Sample]] = {}
    for sample in samples:
        if sample.age_s >= WARM_UP_S:
            lives.setdefault(sample.pid, []).append(sample)
    return max(lives.values(), key=len, default=[])


def growth(samples: Sequence[Sample], value: Callable[[Sample], float]) -> Growth | None:
    """None where there are too few to say."""
    if len(samples) < LEAST_SAMPLES:
        return None
    third = len(samples) // 3
    first, last = (statistics.median(map(value, part)) for part in (samples[:third], samples[-third:]))
    slope, _ = statistics.linear_regression([s.age_s / 3600 for s in samples], [value(s) for s in samples])
    return Growth(first, last, slope, samples[-1].age_s - samples[0].age_s)
