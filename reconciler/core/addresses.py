"""Addresses are ours to give: fixed ones outside the part of the network that Docker hands out."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

RESERVED = 10
"""How many addresses at the start of a network stay free (its gateway is the first of them)."""


def pick_address(subnet: str, ip_range: str, taken: Iterable[str], name: str) -> str | None:
    """A free address of `subnet` outside `ip_range`, or None when all are taken.

    The search starts at a place that follows from `name`, which no two containers share, so that an address
    just given up is not given again at once: some client may still talk to it.
    """
    ours = _ours(subnet, ip_range)
    busy = set(taken)
    start = zlib.crc32(name.encode()) % len(ours) if ours else 0
    for step in range(len(ours)):
        address = ours[(start + step) % len(ours)]
        if address not in busy:
            return address
    return None


@functools.lru_cache(maxsize=8)
def _ours(subnet: str, ip_range: str) -> tuple[str, ...]:
    """The addresses of `subnet` that Docker does not hand out, in order."""
    network, dynamic = IPv4Network(subnet), IPv4Network(ip_range)
    first, last = int(network.network_address) + RESERVED, int(network.broadcast_address) - 1
    return tuple(str(IPv4Address(n)) for n in range(first, last + 1) if IPv4Address(n) not in dynamic)


def overlaps(subnet: str, others: Iterable[str]) -> bool:
    """Whether `subnet` shares an address with any of `others`; IPv6 ones never do."""
    network = IPv4Network(subnet)
    return any(":" not in other and network.overlaps(IPv4Network(other, strict=False)) for other in others)


def holds(subnet: str | None, address: str | None) -> bool:
    """Whether `address` lies in `subnet`; no subnet holds nothing."""
    return subnet is not None and address is not None and IPv4Address(address) in IPv4Network(subnet)
