"""A plan that is being written, and what it is written from."""

from __future__ import annotations

from reconciler.core.membership import of_group
from reconciler.core.observed import ObservedContainer, ObservedState
from reconciler.core.plan import Action, Plan, PlannedAction
from reconciler.core.planner.addresses import Addresses, chosen
from reconciler.core.planner.wish import Wish
from reconciler.core.rollout import Group, Rollout, ServiceRollout

GRACE_S = 10.0
"""How long a container may take to stop where nothing says otherwise: Docker's own measure."""


class Draft:
    """A plan being written: what it is written from never changes, steps and notes are only added.

    A step is known by its index. Whatever plans something answers the index that others must come after, None where
    there is nothing to wait for.
    """

    def __init__(self, wish: Wish, observed: ObservedState, rollout: Rollout) -> None:
        self.wish = wish
        self.observed = observed
        self.rollout = rollout
        self.services = {service.name: service for service in wish.desired.services}
        self.network = chosen(observed.engine.networks)
        self.addresses = Addresses(self.network, rollout, observed.engine.taken_addresses)
        self._steps: list[PlannedAction] = []
        self._notes: dict[str, None] = {}

    def add(self, action: Action, target: str, cause: str, *after: int | None) -> int:
        """One more step, after those that there are among `after`; its index."""
        self._steps.append(PlannedAction(action, target, cause, tuple(i for i in after if i is not None)))
        return len(self._steps) - 1

    def note(self, words: str) -> None:
        """Say what is left undone on purpose, once."""
        self._notes[words] = None

    def plan(self) -> Plan:
        """What was drafted."""
        return Plan(tuple(self._steps), tuple(self._notes))

    def here(self, state: ServiceRollout, group: Group | None) -> tuple[ObservedContainer, ...]:
        """The containers of a group that are there."""
        return of_group(self.observed, state.service, group)

    def has_ready(self, state: ServiceRollout, group: Group | None) -> bool:
        """Somebody of the group answers."""
        return any(container.is_ready for container in self.here(state, group))

    def replicas(self, state: ServiceRollout, otherwise: int) -> int:
        """How many containers the manifest wants of the service now; `otherwise` where it is not in the manifest."""
        service = self.services.get(state.service)
        return service.replicas if service else otherwise

    def grace_s(self, revision: str) -> float:
        """How long a container of `revision` may take to stop."""
        kept = self.wish.targets.kept.get(revision)
        return kept.service.stop_grace_period_s if kept else GRACE_S
