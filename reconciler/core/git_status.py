"""What is known of a repository that is followed, for whoever asks."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.core.provenance import Commit
from reconciler.core.trust import Trouble


@dataclass(frozen=True, slots=True)
class GitStatus:
    """A repository, and how far it is followed. Moments are RFC 3339, UTC.

    `accepted` is the commit in force, since `accepted_at`. `newest` is the id that was seen last. `trouble` says why
    the repository cannot be followed further, since `trouble_since`; `refused` is the last commit that was not taken.
    `next_look_s` is None where nobody is waiting for it. `repaired` says when our copy was last made anew, and why.
    """

    url: str
    ref: str
    path: str
    accepted: Commit | None = None
    accepted_at: str = ""
    newest: str | None = None
    looked_at: str = ""
    next_look_s: float | None = None
    failures: int = 0
    trouble: Trouble | None = None
    trouble_since: str = ""
    refused: Commit | None = None
    repaired: str = ""
    is_watched: bool = False


@dataclass(frozen=True, slots=True)
class Synced:
    """What a look that was asked for came to: how things are now, and whether another commit is in force since."""

    status: GitStatus
    is_changed: bool
