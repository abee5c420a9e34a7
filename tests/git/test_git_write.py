"""A promotion written back: one scalar, one commit, pushed and never forced; who pushed first wins."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters import git_write
from reconciler.adapters.git_source import GitSource
from reconciler.core.errors import Refused
from reconciler.core.git_config import Signatures, WriteBack
from reconciler.formats.write_back import set_mode
from tests.git.git_keys import SshKeys
from tests.git.git_servers import Ssh, Web
from tests.git.git_world import Repo, World, accepted

BACK = WriteBack("SwiftDeploy", "deploy@example.com")
TEXT = """\
services:
  app:
    image: demo:1   # the one
    port: 3000
    mode: canary
nginx: {image: "nginx:1.30", port: 8080}
network: {name: web, driver_type: bridge}
"""
TO_STABLE = functools.partial(set_mode, service="app", mode="stable")


@pytest.fixture
def served(world: World) -> World:
    """A bare repository, and a clone that has pushed a manifest and more to it."""
    Repo(world.folder / "base" / "shop.git", bare=True)
    world.repo.git("remote", "add", "origin", str(world.folder / "base" / "shop.git"))
    world.repo.write("deploy/manifest.yaml", TEXT)
    world.repo.write("deploy/other.txt", "other\n")
    world.repo.write("README", "read me\n")
    push(world, "the first")
    return world


def push(world: World, subject: str) -> str:
    made = world.repo.commit_all(subject)
    world.repo.git("push", "--quiet", "origin", "HEAD:main")
    return made


def source(world: World, **config: Any) -> GitSource:
    given = {"url": str(world.folder / "base" / "shop.git"), "path": "deploy/manifest.yaml", "write_back": BACK}
    return world.source(**{**given, **config})


def pulled(world: World) -> Repo:
    world.repo.git("pull", "--quiet", "--rebase", "origin", "main")
    return world.repo


def test_one_scalar_is_committed_pushed_and_in_force(served: World) -> None:
    first = served.repo.head()
    wrote = source(served)
    commit = wrote.write(TO_STABLE, "app: mode canary -> stable\n\npromote by ann\n")
    assert (commit.author, commit.subject) == ("SwiftDeploy <deploy@example.com>", "app: mode canary -> stable")
    assert accepted(wrote) == commit
    desired = wrote.load().desired
    assert desired is not None
    assert desired.services[0].mode == "stable"
    repo = pulled(served)
    assert (repo.head(), repo.head("HEAD~1")) == (commit.id, first)
    assert repo.git("diff", "--numstat", "HEAD~1") == "1\t1\tdeploy/manifest.yaml"
    assert (repo.folder / "deploy/manifest.yaml").read_text() == TEXT.replace("mode: canary", "mode: stable")
    assert repo.git("show", "-s", "--format=%B") == "app: mode canary -> stable\n\npromote by ann"


def test_what_says_so_already_is_not_committed_again(served: World) -> None:
    wrote = source(served)
    commit = wrote.write(TO_STABLE, "once\n")
    assert wrote.write(TO_STABLE, "twice\n") == commit
    assert pulled(served).head() == commit.id


def test_who_pushes_first_wins_and_the_change_is_made_on_top(served: World, monkeypatch: pytest.MonkeyPatch) -> None:
    wrote, others = source(served), iter(range(2))
    committed = git_write.Writer._committed

    def overtaken(self: git_write.Writer, change: git_write.Change) -> str:
        made = committed(self, change)
        if (number := next(others, None)) is not None:
            served.repo.write("deploy/manifest.yaml", TEXT.replace("demo:1", f"demo:{number + 2}"))
            push(served, f"somebody's {number}")
        return made

    monkeypatch.setattr(git_write.Writer, "_committed", overtaken)
    commit = wrote.write(TO_STABLE, "stable\n")
    repo = pulled(served)
    assert repo.head() == commit.id
    assert repo.git("log", "--format=%s").split("\n") == ["stable", "somebody's 1", "somebody's 0", "the first"]
    assert "demo:3" in (repo.folder / "deploy/manifest.yaml").read_text(), "nobody's change is lost"


def test_it_gives_up_after_so_many_races(served: World, monkeypatch: pytest.MonkeyPatch) -> None:
    wrote = source(served, write_back=WriteBack("S", "s@example.com", attempts=2))
    committed = git_write.Writer._committed

    def overtaken(self: git_write.Writer, change: git_write.Change) -> str:
        made = committed(self, change)
        push(served, "somebody again")
        return made

    monkeypatch.setattr(git_write.Writer, "_committed", overtaken)
    with pytest.raises(Refused, match="others pushed 2 times"):
        wrote.write(TO_STABLE, "stable\n")
    assert "mode: canary" in (pulled(served).folder / "deploy/manifest.yaml").read_text()


def test_the_commit_is_signed_where_a_key_is_given_and_only_then_trusted(served: World, tmp_path: Path) -> None:
    keys = SshKeys(tmp_path / "keys")
    keys.commit(served.repo, 1, "ann")
    served.repo.write("deploy/manifest.yaml", TEXT)
    served.repo.git("add", "-A")
    served.repo.git(*keys.options("ann"), "commit", "--quiet", "--amend", "--no-edit", "--gpg-sign")
    served.repo.git("push", "--quiet", "--force", "origin", "HEAD:main")
    trust = {"signatures": Signatures.HEAD, "allowed_signers": str(keys.list)}
    unsigned = source(served, **trust)
    with pytest.raises(Refused, match="was pushed, but it is not in force"):
        unsigned.write(TO_STABLE, "unsigned\n")
    unsigned.stop()
    served.repo.git("push", "--quiet", "--force", "origin", "HEAD:main")
    back = WriteBack("Bob", "bob@example.com", signing_key=str(keys.folder / "bob"))
    commit = source(served, write_back=back, **trust).write(TO_STABLE, "signed\n")
    assert commit.signer == "bob@example.com"


def test_it_is_pushed_over_ssh_and_https_never_showing_the_token(served: World, tmp_path: Path) -> None:
    with Ssh(tmp_path / "ssh").serving() as ssh:
        url = f"{ssh.url}{served.folder}/base/shop.git"
        over_ssh = source(served, url=url, ssh_key=str(ssh.folder / "user"), known_hosts=str(ssh.known_hosts))
        first = over_ssh.write(TO_STABLE, "over ssh\n")
        over_ssh.stop()
    served.folder.joinpath("base/shop.git").joinpath("config").open("a").write("[http]\n\treceivepack = true\n")
    token = tmp_path / "token"
    token.write_text("canary-token-7f3a")
    token.chmod(0o600)
    with Web(served.folder / "base", tmp_path / "web", tls=True, user="git:canary-token-7f3a").serving() as web:
        config = {"url": f"{web.url}/shop.git", "token_file": str(token), "ca_file": str(web.ca_file)}
        over_https = source(served, **config)
        second = over_https.write(functools.partial(set_mode, service="app", mode="canary"), "over https\n")
    assert pulled(served).git("log", "-2", "--format=%H").split("\n") == [second.id, first.id]


def test_what_cannot_be_written_is_refused_with_the_reason_and_nothing_changes(served: World) -> None:
    before = served.repo.head()
    with pytest.raises(Refused, match="write_back is not set up"):
        source(served, write_back=None).write(TO_STABLE, "no\n")
    with pytest.raises(Refused, match="Follow a branch"):
        source(served, commit=before).write(TO_STABLE, "no\n")
    hook = served.folder / "base/shop.git/hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho only on weekdays >&2\nexit 1\n")
    hook.chmod(0o755)
    wrote = source(served)
    with pytest.raises(Refused, match=r"the push to .* was refused"):
        wrote.write(TO_STABLE, "no\n")
    with pytest.raises(Refused, match="has no service"):
        wrote.write(functools.partial(set_mode, service="web", mode="stable"), "no\n")
    assert pulled(served).head() == before
