"""What an operator's word changes in the state, before the cycle that hears it decides anything."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from reconciler.core.rollout import Phase, Rollout, ServiceRollout


@dataclass(frozen=True, slots=True)
class Deploy:
    """Bring the stack up (again): clears a teardown, and lets given-up revisions be tried once more."""

    allow_interruption: bool = False


@dataclass(frozen=True, slots=True)
class Teardown:
    """Take the stack down; `volumes` also removes the data volumes, not only the logs."""

    volumes: bool = False


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Reconcile now."""


Word = Deploy | Teardown | LookAgain


def hear(rollout: Rollout, word: Word) -> Rollout:
    """The rollout once `word` is heard."""
    match word:
        case Deploy():
            services = {name: dataclasses.replace(state, quarantined=()) for name, state in rollout.services.items()}
            return dataclasses.replace(rollout, services=services, torn_down=False, drop_volumes=False)
        case Teardown(volumes=volumes):
            services = {
                name: ServiceRollout(name, Phase.ABSENT, quarantined=state.quarantined)
                for name, state in rollout.services.items()
            }
            return dataclasses.replace(rollout, services=services, torn_down=True, drop_volumes=volumes)
        case LookAgain():
            return rollout
