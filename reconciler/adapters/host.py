"""The machine: how much disk, processor and memory is left, and which addresses nobody uses."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network
from pathlib import Path

from reconciler.core.record import HostFacts

GB = 2**30
"""As `df -h` counts, so that what an operator reads there is what the limit means."""

# Private space, the corners that other software rarely takes by default first.
_POOLS = tuple(
    map(
        IPv4Network, ("10.213.0.0/16", "10.214.0.0/15", "10.128.0.0/9", "172.16.0.0/12", "192.168.0.0/16", "10.0.0.0/9")
    )
)
_SIZE = 2 ** (32 - 22)
_BROADEST_ROUTE = 8
_MEMORY = re.compile(r"^(MemTotal|MemAvailable):\s+(\d+) kB$", re.MULTILINE)
_LEAF = re.compile(r"\|-- ([0-9.]+)$")
_PREFIX = re.compile(r"^\s*/([0-9]+) ")


class LocalHost:
    """The Host port. `data_root` is where the engine keeps its images and containers."""

    def __init__(self, data_root: str | None, *, proc: Path = Path("/proc")) -> None:
        self._data_root = data_root
        self._proc = proc

    def facts(self, disk_path: str | None) -> HostFacts:
        """Free disk (what an ordinary user may still fill), load of the last minute and memory, now."""
        path = disk_path or self._data_root or ""
        return HostFacts(
            disk_free_gb=_disk_free_gb(path),
            cpu_load=_load(),
            mem_used_percent=_mem_used_percent(_text(self._proc / "meminfo")),
            cpus=os.cpu_count() or 1,
            disk_path=path or "the engine's data root",
        )

    def free_subnet(self, taken: Sequence[str]) -> tuple[str, str] | None:
        """A private /22 that no route, address or `taken` network overlaps, and its last /24 for Docker."""
        routes = _text(self._proc / "net" / "fib_trie")
        if routes is None:
            return None
        busy = [*_routes(routes), *_networks(taken)]
        chosen = next(filter(None, (_gap(pool, busy) for pool in _POOLS)), None)
        return None if chosen is None else (str(chosen), str(list(chosen.subnets(new_prefix=24))[-1]))


def _disk_free_gb(path: str) -> float | None:
    """Rounded down: 9.999 is not 10."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return None
    return math.floor(disk.f_bavail * disk.f_frsize / GB * 100) / 100


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def _mem_used_percent(meminfo: str | None) -> float | None:
    """What could not be had without swapping, in percent of all."""
    found = {name: int(size) for name, size in _MEMORY.findall(meminfo or "")}
    total, available = found.get("MemTotal", 0), found.get("MemAvailable")
    if total <= 0 or available is None:
        return None
    return round(max(0.0, 1 - available / total) * 100, 1)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None


def _routes(fib_trie: str) -> Iterator[IPv4Network]:
    """Every route and address of every routing table, but those that mean "the rest of the world"."""
    address = ""
    for line in fib_trie.splitlines():
        if leaf := _LEAF.search(line):
            address = leaf[1]
        elif (prefix := _PREFIX.search(line)) and address and int(prefix[1]) >= _BROADEST_ROUTE:
            yield from _networks([f"{address}/{prefix[1]}"])


def _networks(texts: Iterable[str]) -> Iterator[IPv4Network]:
    """Those that are IPv4 networks; no other kind can be in our way."""
    for text in texts:
        try:
            yield IPv4Network(text, strict=False)
        except ValueError:
            continue


def _gap(pool: IPv4Network, busy: Sequence[IPv4Network]) -> IPv4Network | None:
    """The first free /22 of `pool`: whatever is in the way moves the search past its end."""
    start, end = int(pool.network_address), int(pool.broadcast_address)
    while start + _SIZE - 1 <= end:
        candidate = IPv4Network((start, 22))
        blocker = next((network for network in busy if network.overlaps(candidate)), None)
        if blocker is None:
            return candidate
        start = (int(blocker.broadcast_address) // _SIZE + 1) * _SIZE
    return None
