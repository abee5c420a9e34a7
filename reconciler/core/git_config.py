"""How git is to be read, and how a promotion may be written back: what the daemon's own file asks for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

GIB = 1_073_741_824


class Signatures(StrEnum):
    """Which commits must carry a trusted signature before they are believed."""

    OFF = "off"
    HEAD = "head"
    EVERY = "every"


@dataclass(frozen=True, slots=True)
class WriteBack:
    """Who a promotion's commit is by, and what pushes it. Files are absolute paths on this host.

    `signing_key` signs the commit (`signing_format`: `ssh`, the file of a private key, or `openpgp`, a fingerprint).
    `ssh_key`, `username` and `token_file` push; where they are None, what reads the repository pushes too. A push
    that lost a race is tried `attempts` times in all.
    """

    author: str
    email: str
    signing_key: str | None = None
    signing_format: str = "ssh"
    ssh_key: str | None = None
    username: str | None = None
    token_file: str | None = None
    attempts: int = 5


@dataclass(frozen=True, slots=True)
class GitConfig:
    """The repository that the manifest comes from. At most one of `branch`, `tag` and `commit` is set; none: `main`.

    `path` is the manifest's, below the repository's top. `commit` is a full id. `timeout_s` bounds each call of git,
    `max_bytes` each file that git writes and the room that must be free. Files (`allowed_signers`, `gpg_home`,
    `ssh_key`, `known_hosts`, `token_file`, `ca_file`) are absolute paths on this host. `write_back` None: the
    repository is only read.
    """

    url: str
    branch: str | None = None
    tag: str | None = None
    commit: str | None = None
    path: str = "manifest.yaml"
    poll_s: float = 15.0
    timeout_s: float = 60.0
    max_bytes: int = GIB
    signatures: Signatures = Signatures.OFF
    allowed_signers: str | None = None
    gpg_home: str | None = None
    allow_rewind: bool = False
    ssh_key: str | None = None
    known_hosts: str | None = None
    username: str | None = None
    token_file: str | None = None
    ca_file: str | None = None
    write_back: WriteBack | None = None

    @property
    def ref(self) -> str:
        """The full name of what is followed: `refs/heads/…`, `refs/tags/…`, or the pinned commit's id."""
        if self.commit is not None:
            return self.commit
        return f"refs/tags/{self.tag}" if self.tag is not None else f"refs/heads/{self.branch or 'main'}"
