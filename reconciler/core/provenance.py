"""Where a manifest came from, when that is known: the commit that it was read from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit, as it is told to people; nothing in it can steer a terminal.

    `id` is the full one, `subject` its first line (at most 200 characters), `when` the committer's date (ISO 8601,
    UTC). `signer` is who signed it, where a signature was asked for, verified and is trusted: a principal of the list
    of signers, or an OpenPGP key's fingerprint. `source` is the repository's address, without credentials, and what is
    followed there.
    """

    id: str
    author: str
    subject: str
    when: str
    signer: str | None
    source: str

    @property
    def short(self) -> str:
        """The first twelve characters of its id."""
        return self.id[:12]
