"""Which network is used, and who gets which address in it."""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.core.addresses import holds, pick_address
from reconciler.core.observed import ObservedContainer, ObservedNetwork
from reconciler.core.rollout import Rollout


def chosen(networks: Iterable[ObservedNetwork]) -> ObservedNetwork | None:
    """The network to use: ours before others', the one with most containers, then the oldest ID."""
    return min(networks, key=lambda n: (not n.ours, -n.attached, n.id), default=None)


class Addresses:
    """The fixed addresses of one plan: no two containers get the same, and on somebody else's network nobody gets any.

    `network` None is the one that is still to be made, as `rollout` says. `taken` are held by any container.
    """

    def __init__(self, network: ObservedNetwork | None, rollout: Rollout, taken: frozenset[str]) -> None:
        self._is_ours = network is None or network.ours
        self._subnet = network.subnet if network else rollout.subnet
        self._ip_range = network.ip_range if network else rollout.ip_range
        self._members = {m.container_id: m.address for s in rollout.services.values() for m in (*s.blue, *s.green)}
        self._held = taken
        self._given: set[str] | None = None

    def new(self, name: str) -> str | None:
        """A free one for the container called `name`; None where there is none to give."""
        if not self._is_ours or self._subnet is None or self._ip_range is None:
            return None
        if self._given is None:
            self._given = {*self._members.values(), *self._held}
        address = pick_address(self._subnet, self._ip_range, self._given, name)
        if address:
            self._given.add(address)
        return address

    def again(self, container: ObservedContainer) -> str | None:
        """The one that a container comes back to: its own, as far as it fits; nginx and OPA need none."""
        own = container.address or self._members.get(container.id)
        if self._is_ours and holds(self._subnet, own):
            return own
        if container.slot is None:
            return None
        return self.new(container.name)  # a dynamic one may be somebody else's after the next reboot
