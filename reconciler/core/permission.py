"""A permission to interrupt the service: for the manifest that it was given for, and not for ever."""

from __future__ import annotations

from dataclasses import dataclass, replace

LASTS_S = 900.0
"""As long as a broken glass: what takes longer has to be allowed again."""


@dataclass(frozen=True, slots=True)
class Permission:
    """`deploy --allow-interruption`: nginx may be replaced. `revision` is the manifest's that was asked for when it was
    given, "" until one was read; `until` is in monotonic seconds.
    """

    until: float
    revision: str = ""

    def left(self, revision: str, now: float) -> Permission | None:
        """What is left of it at `now` where the manifest `revision` is asked for ("" where none can be read yet)."""
        is_another = bool(self.revision and revision) and revision != self.revision
        return None if is_another or now >= self.until else replace(self, revision=self.revision or revision)
