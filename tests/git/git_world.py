"""Repositories that somebody commits in, keys to sign with, and a source that follows them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.file_source import FileSource
from reconciler.adapters.git_source import GitSource
from reconciler.core.git_config import GitConfig
from reconciler.core.provenance import Commit
from reconciler.core.trust import Kind

MANIFEST = (
    "services: {{image: 'demo:{number}', port: 3000}}\nnginx: {{image: 'nginx:1.30', port: 8080}}\n"
    "network: {{name: web, driver_type: bridge}}\n"
)
PATIENCE_S = 30.0
MISSING = "0" * 39 + "1"


def wait_until(is_true: Callable[[], object], what: str = "it") -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < give_up_at, f"waited too long for {what}"
        time.sleep(0.005)


def clean_environment(home: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a user's git runs with here: nothing of this machine's configuration."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        **(more or {}),
    }


class Repo:
    """A user's repository with one branch, `main`; with `bare` one that others push to."""

    def __init__(self, folder: Path, *, bare: bool = False, can_filter: bool = True) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main", *(["--bare"] if bare else []))
        self.git("config", "user.name", "Ann Example")
        self.git("config", "user.email", "ann@example.com")
        if can_filter:
            self.git("config", "uploadpack.allowFilter", "true")

    def git(self, *words: str, given: bytes | None = None, more: Mapping[str, str] | None = None) -> str:
        done = subprocess.run(
            ["git", *words],
            cwd=self.folder,
            env=clean_environment(self.folder, more),
            input=given,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, (words, done.stderr.decode())
        return done.stdout.decode().strip()

    def write(self, name: str, text: str | bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)

    def commit(self, number: int, *options: str, at: str = "manifest.yaml", when: int | None = None) -> str:
        """A manifest whose image's tag is `number`, committed; its id."""
        self.write(at, MANIFEST.format(number=number))
        return self.commit_all(f"version {number}", *options, when=when)

    def commit_all(self, subject: str = "more", *options: str, when: int | None = None) -> str:
        more = {} if when is None else {"GIT_AUTHOR_DATE": f"@{when} +0000", "GIT_COMMITTER_DATE": f"@{when} +0000"}
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", subject, *options, more=more)
        return self.head()

    def many(self, count: int) -> str:
        """So many empty commits on top of the branch, at once; the last one's id."""
        lines = []
        for number in range(count):
            start = f"from {self.head()}\n" if not number else ""
            words = f"number {number}"
            lines.append(
                f"commit refs/heads/main\ncommitter Ann <a@b> {1_700_000_000 + number} +0000\n"
                f"data {len(words)}\n{words}\n{start}\n"
            )
        self.git("fast-import", "--quiet", given="".join(lines).encode())
        return self.head()

    def head(self, name: str = "HEAD") -> str:
        return self.git("rev-parse", name)

    def object(self, kind: str, data: bytes) -> str:
        """An object of any bytes, as an attacker makes it."""
        return self.git("hash-object", "-t", kind, "-w", "--stdin", "--literally", given=data)

    def tree(self, *entries: tuple[str, str, str]) -> str:
        """A tree of any entries (mode, name, id): git itself would refuse most that are tried."""
        data = b"".join(f"{mode} {name}".encode() + b"\0" + bytes.fromhex(id_) for mode, name, id_ in entries)
        return self.object("tree", data)

    def commit_of(self, tree: str, *parents: str, author: bytes = b"Ann <a@b>", more: bytes = b"",
                  message: bytes = b"made by hand\n") -> str:  # fmt: skip
        """A commit of any words, with the branch set to it."""
        lines = [b"tree " + tree.encode(), *(b"parent " + parent.encode() for parent in parents)]
        lines += [b"author " + author + b" 1700000000 +0000", b"committer " + author + b" 1700000000 +0000"]
        made = self.object("commit", b"\n".join(lines) + b"\n" + more + b"\n" + message)
        self.point(made)
        return made

    def point(self, commit: str, ref: str = "refs/heads/main") -> None:
        """Set a ref without asking git whether that is wise."""
        path = (self.folder / ".git" if (self.folder / ".git").is_dir() else self.folder) / ref
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{commit}\n")


class World:
    """A repository, and a source that follows it with a state directory of its own."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.folder = folder
        self.clock = SystemClock()
        self.config = config
        self.news: list[str] = []
        self.opened: list[GitSource] = []
        self._repo: Repo | None = None

    @property
    def repo(self) -> Repo:
        if self._repo is None:
            self._repo = Repo(self.folder / "repo")
        return self._repo

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def git_folder(self) -> Path:
        return self.state / "git"

    def source(self, **config: Any) -> GitSource:
        """A source over the same state directory, as after a restart."""
        wanted = {"url": str(self.folder / "repo"), **self.config, **config}
        made = GitSource(
            GitConfig(**wanted),
            self.state,
            self.clock,
            lambda path: FileSource(path, self.clock),
            self.news.append,
            owner=os.getuid(),
        )
        self.opened.append(made)
        return made

    def close(self) -> None:
        for source in self.opened:
            source.stop()


def image(source: GitSource) -> str:
    """The image of the manifest in force."""
    loaded = source.load()
    assert loaded.desired is not None, loaded.problems
    assert loaded.settled
    return loaded.desired.services[0].image


def accepted(source: GitSource) -> Commit:
    commit = source.status().accepted
    assert commit is not None, source.status()
    return commit


def refusal(source: GitSource) -> tuple[Kind | None, str]:
    """Kind and words of what is wrong."""
    trouble = source.status().trouble
    return (None, "") if trouble is None else (trouble.kind, trouble.message)
