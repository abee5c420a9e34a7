"""Writes one file of a repository back: a commit on top of the one in force, pushed, never forced.

Nothing is checked out: the new tree is the old one with another blob in one place. Whoever pushed in the meantime wins;
the caller looks again and tries anew.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.adapters import git_access
from reconciler.adapters.git_access import AccessError
from reconciler.adapters.git_command import PROGRAMS, Git, GitError, Limits, Setting
from reconciler.core.git_config import GitConfig, WriteBack
from reconciler.formats import git_output
from reconciler.formats.git_url import Remote

_RACED = (
    "fetch first",
    "non-fast-forward",
    "stale info",
    "failed to update ref",
    "cannot lock ref",
    "incorrect old value",
)
_EXECUTABLE = "100755"


class Raced(GitError):
    """Somebody else has pushed since we looked."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be written: `content` at `path`, on top of the commit `parent`, said in `message`."""

    parent: str
    path: str
    content: bytes
    message: str


class Writer:
    """Writes to one repository. `folder` is ours and holds `mirror`; only one thread may use either."""

    def __init__(self, config: GitConfig, remote: Remote, folder: Path, git: Git) -> None:
        assert config.write_back is not None, "asked for only where it is configured"
        self._config, self._back = config, config.write_back
        self._remote, self._folder, self._git = remote, folder, git

    def write(self, change: Change) -> str:
        """The id of the pushed commit. Raises Raced, and GitError where it cannot be made or pushed."""
        if self._config.branch is None and (self._config.tag or self._config.commit):
            raise GitError("a tag or a commit is followed, which cannot be written back to. Follow a branch")
        made = self._committed(change)
        self._pushed(made)
        return made

    def _committed(self, change: Change) -> str:
        scratch = self._folder / "write"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700)
        try:
            (scratch / "content").write_bytes(change.content)
            index = Setting(environment=(("GIT_INDEX_FILE", str(scratch / "index")),))
            mode = self._mode(change)
            blob = self._one(["hash-object", "-w", "--no-filters", "--", str(scratch / "content")])
            self._run(["read-tree", change.parent], index)
            self._run(["update-index", "--cacheinfo", f"{mode},{blob},{change.path}"], index)
            tree = git_output.one_id(self._run(["write-tree", "--missing-ok"], index))
            signs = ["-S"] if self._back.signing_key else []
            words = ["commit-tree", *signs, "-p", change.parent, "-F", "-", tree]
            return git_output.one_id(self._run(words, self._author(), change.message.encode()))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _mode(self, change: Change) -> str:
        """The file's mode as it is; whether it may be run is its authors' to say."""
        listed = git_output.tree(self._run(["ls-tree", "-z", "--full-tree", change.parent, "--", change.path]))
        entry = next((entry for entry in listed if entry.path == change.path), None)
        return _EXECUTABLE if entry is not None and entry.mode == _EXECUTABLE else "100644"

    def _author(self) -> Setting:
        name, email = self._back.author, self._back.email
        who = {
            "GIT_AUTHOR_NAME": name,
            "GIT_AUTHOR_EMAIL": email,
            "GIT_COMMITTER_NAME": name,
            "GIT_COMMITTER_EMAIL": email,
        }
        options, more = _signing(self._back, self._config)
        return Setting(options, tuple({**who, **more}.items()))

    def _pushed(self, made: str) -> None:
        config = replace(
            self._config,
            ssh_key=self._back.ssh_key or self._config.ssh_key,
            username=self._back.username or self._config.username,
            token_file=self._back.token_file or self._config.token_file,
        )
        words = ["push", "--quiet", "--porcelain", "--no-verify", "--no-signed", "--end-of-options", self._remote.url]
        done = self._git.run(
            [f"--git-dir={self._folder / 'mirror'}", *words, f"{made}:{self._config.ref}"],
            Limits(self._config.timeout_s),
            git_access.setting(config, self._remote),
            fails=True,
        )
        if done.status:
            told = f"{done.output.decode('utf-8', 'replace')}\n{done.said}"
            kind = Raced if any(words in told for words in _RACED) else GitError
            last = [line.strip() for line in told.splitlines() if line.strip() and line.strip() != "Done"]
            raise kind(
                f"the push to {self._remote.shown} was refused: {last[-1][:300] if last else 'no word why'}", told
            )

    def _one(self, words: list[str]) -> str:
        return git_output.one_id(self._run(words))

    def _run(self, words: list[str], setting: Setting | None = None, given: bytes = b"") -> bytes:
        command = [f"--git-dir={self._folder / 'mirror'}", *words]
        return self._git.run(command, Limits(self._config.timeout_s), setting, given).output


def _signing(back: WriteBack, config: GitConfig) -> tuple[tuple[tuple[str, str], ...], Mapping[str, str]]:
    """Options and environment of a git that signs with the configured key. Raises AccessError."""
    if back.signing_key is None:
        return (), {}
    is_ssh = back.signing_format == "ssh"
    name = "ssh-keygen" if is_ssh else "gpg"
    program = shutil.which(name, path=PROGRAMS)
    if program is None:
        raise AccessError(f"{name} is not installed, and a commit is to be signed with it")
    if is_ssh and not os.access(back.signing_key, os.R_OK):
        raise AccessError(f"{back.signing_key} is not there, or may not be read. Look at `write_back.signing_key`")
    options = [("gpg.format", back.signing_format), ("user.signingKey", back.signing_key)]
    options.append(("gpg.ssh.program" if is_ssh else "gpg.program", program))
    more: dict[str, str] = {}
    if not is_ssh:
        options.append(("gpg.openpgp.program", program))
        more = {"GNUPGHOME": config.gpg_home} if config.gpg_home else {}
    with suppress(KeyError):
        more["USER"] = os.environ["USER"]
    return tuple(options), more
