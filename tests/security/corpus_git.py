"""T: repositories, servers' words and environments that want git to run something, or to read somewhere else.

The tripwire is a file that any planted command makes. It must never appear; nothing outside the state directory may
change; and what was in force stays, or the next version is, as the case says.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import pytest

from reconciler.adapters.git_source import GitSource
from reconciler.adapters.git_state import Kept, load_state, save_state
from reconciler.adapters.state_dir import StateDir
from reconciler.core.git_config import GitConfig
from reconciler.core.trust import Kind
from reconciler.formats import git_url
from tests.git.git_world import MANIFEST, Repo, World, image, refusal
from tests.security.cases import Attack, in_time, steering

FOLLOWED = "demo:2"
SECRET = "s3cr3t-tripwire-7f3a"


class Stage:
    """A repository with one commit that is in force, and room for what an attacker plants."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(_base(), folder, symlinks=True, dirs_exist_ok=True)
        self.outside = folder / "outside"
        self.outside.mkdir()
        (self.outside / "secret").write_text(SECRET)
        self.tripwire = folder / "tripwire"
        self.command = folder / "planted"
        self.command.write_text(f'#!/bin/sh\necho "$0 $*" >> {self.tripwire}\nexit 0\n')
        self.command.chmod(0o755)
        self.world = World(folder)
        self.world._repo = self.repo = _existing(folder / "repo")
        with StateDir(folder / "state") as state:  # what was accepted there is in force here
            save_state(state, GitConfig(str(self.repo.folder)), _in_force())

    @property
    def dot_git(self) -> Path:
        return self.repo.folder / ".git"

    def config(self, name: str, value: str) -> None:
        """A line in the checkout's own configuration, written by hand: git runs nothing of it on the way."""
        section, _, key = name.rpartition(".")
        first, _, rest = section.partition(".")
        title = f'{first} "{rest}"' if rest else first
        with (self.dot_git / "config").open("a") as file:
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            file.write(f'[{title}]\n\t{key} = "{escaped}"\n')

    def new_version(self) -> None:
        """The next commit, made without this repository's own configuration and hooks."""
        hidden = {name: self.dot_git / name for name in ("config", "hooks")}
        for name, path in hidden.items():
            path.rename(self.folder / f"hidden-{name}") if path.exists() else None
        shutil.copy(_base() / "repo" / ".git" / "config", self.dot_git / "config")
        self.repo.commit(2)
        (self.dot_git / "config").unlink()
        for name, path in hidden.items():
            there = self.folder / f"hidden-{name}"
            there.rename(path) if there.exists() else None
        self.tripwire.unlink(missing_ok=True)


@functools.cache
def _base() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="git-corpus-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Repo(folder / "repo").commit(1)
    _looked_at(folder).close()
    return folder


@functools.cache
def _in_force() -> Kept:
    with StateDir(_base() / "state") as state:
        kept, why = load_state(state, GitConfig(str(_base() / "repo")))
    assert kept is not None, why
    return kept


def _looked_at(folder: Path) -> World:
    world = World(folder)
    world.source().sync()
    return world


def _existing(folder: Path) -> Repo:
    repo = Repo.__new__(Repo)
    repo.folder = folder
    return repo


Plant = Callable[[Stage], None]


@dataclass(frozen=True)
class FromGit(Attack):
    """`plant` prepares it; `expect` is the image in force afterwards, or the kind of the refusal."""

    plant: Plant
    expect: str | Kind = FOLLOWED
    environment: Mapping[str, str] = field(default_factory=dict)

    def attempt(self, folder: Path) -> None:
        stage = Stage(folder)
        try:
            source = stage.world.source()
            assert image(source) == "demo:1"
            self.plant(stage)
            before = _seen(folder)
            filled = {name: self._filled(value, stage) for name, value in self.environment.items()}
            with in_time(), mock.patch.dict(os.environ, filled):
                source.sync()
                loaded = source.load()
            self._nothing_came_of_it(stage, source, before)
            text = repr((loaded.trouble, loaded.commit, loaded.problems, source.status()))
            assert SECRET not in text
            assert not steering(text)
        finally:
            stage.world.close()

    def _filled(self, value: str, stage: Stage) -> str:
        return value.replace("COMMAND", str(stage.command)).replace("FOLDER", str(stage.folder))

    def _nothing_came_of_it(self, stage: Stage, source: GitSource, before: Mapping[str, bytes]) -> None:
        assert not stage.tripwire.exists(), stage.tripwire.read_text()
        kind, message = refusal(source)
        if isinstance(self.expect, Kind):
            assert kind is self.expect, message
            assert image(source) == "demo:1"
        else:
            assert (image(source), kind) == (self.expect, None), message
        assert _seen(stage.folder) == before, "something outside the state directory changed"
        for path in (stage.world.git_folder / "trees").rglob("*"):
            assert not path.is_symlink()
            if path.is_file():
                assert stat.S_IMODE(path.stat().st_mode) & 0o133 == 0, path
                assert SECRET.encode() not in path.read_bytes()


def _seen(folder: Path) -> dict[str, bytes]:
    """Every file that is not ours to change."""
    return {
        str(path): b"-> " + os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if not path.is_relative_to(folder / "state") and (path.is_symlink() or path.is_file())
    }


@dataclass(frozen=True)
class BadAddress(Attack):
    """An address, a name or a path that must be refused before git sees it, and never be repeated with a password."""

    config: Mapping[str, str] = field(default_factory=dict)

    def attempt(self, folder: Path) -> None:
        check = {"url": git_url.remote, "branch": git_url.branch, "tag": git_url.branch, "commit": git_url.commit_id,
                 "path": git_url.path}  # fmt: skip
        for name, value in self.config.items():
            with pytest.raises(ValueError, match=r".") as refused:
                check[name](value)
            assert SECRET not in str(refused.value)
            assert not steering(str(refused.value))


# ── T1: a checkout's own configuration ─────────────────────────────────────────────────────────────────────────────

PROGRAMS = (
    *(
        "core.fsmonitor",
        "diff.external",
        "core.pager",
        "core.editor",
        "core.sshCommand",
        "core.gitProxy",
        "core.askPass",
    ),
    *("core.alternateRefsCommand", "diff.x.textconv", "diff.x.command", "filter.x.smudge", "filter.x.clean"),
    *(
        "filter.x.process",
        "merge.x.driver",
        "gpg.program",
        "gpg.ssh.program",
        "gpg.x509.program",
        "gpg.openpgp.program",
    ),
    *("gpg.ssh.defaultKeyCommand", "uploadpack.packObjectsHook", "gc.recentObjectsHook", "sequence.editor"),
    *("interactive.diffFilter", "trailer.x.command", "remote.origin.uploadpack", "remote.origin.receivepack"),
    *(
        "remote.origin.vcs",
        "pager.ls-remote",
        "man.x.cmd",
        "sendemail.x.sendmailCmd",
        "difftool.x.cmd",
        "init.templateDir",
    ),
)
SHELLED = ("credential.helper", "alias.upload-pack", "alias.fetch", "alias.ls-remote", "submodule.x.update")
VALUES = {
    "core.worktree": "FOLDER/outside",
    "core.attributesFile": "FOLDER/outside/secret",
    "include.path": "FOLDER/evil.config",
    "includeIf.gitdir:/.path": "FOLDER/evil.config",
    "url.ext::sh -c COMMAND.insteadOf": "/",
    "protocol.ext.allow": "always",
    "protocol.allow": "always",
    "safe.directory": "*",
    "http.proxy": "ext::COMMAND",
    "fsck.skipList": "FOLDER/outside/secret",
    "uploadpack.allowAnySHA1InWant": "true",
    "extensions.worktreeConfig": "true",
    "core.bare": "true",
    "receive.procReceiveRefs": "refs",
    "core.logAllRefUpdates": "always",
}


def _configured(name: str, value: str) -> Plant:
    def plant(stage: Stage) -> None:
        filled = value.replace("COMMAND", str(stage.command)).replace("FOLDER", str(stage.folder))
        (stage.folder / "evil.config").write_text(
            f"[core]\n\tfsmonitor = {stage.command}\n\tsshCommand = {stage.command}\n"
            f"\thooksPath = {stage.folder}/hooks\n"
            f"[uploadpack]\n\tpackObjectsHook = {stage.command}\n"
        )
        (stage.dot_git / "info").mkdir(exist_ok=True)
        (stage.dot_git / "info" / "attributes").write_text("* filter=x diff=x merge=x\n")
        stage.repo.write(".gitattributes", "* filter=x diff=x merge=x\n")
        stage.config(name.replace("COMMAND", str(stage.command)), filled)
        stage.new_version()

    return plant


def _configurations() -> Iterator[FromGit]:
    for name in PROGRAMS:
        yield FromGit("T1", name, _configured(name, "COMMAND"))
    for name in SHELLED:
        yield FromGit("T1", name, _configured(name, "!COMMAND"))
    for name, value in VALUES.items():
        yield FromGit("T1", f"{name[:24]}={value[:16]}", _configured(name, value))


# ── T2: hooks, and the layout of a checkout ────────────────────────────────────────────────────────────────────────

HOOKS = (
    *(
        "post-checkout",
        "reference-transaction",
        "post-index-change",
        "pre-auto-gc",
        "fsmonitor-watchman",
        "post-update",
    ),
    *(
        "pre-receive",
        "update",
        "proc-receive",
        "post-receive",
        "push-to-checkout",
        "pre-push",
        "post-merge",
        "post-rewrite",
    ),
)


def hooks(stage: Stage) -> None:
    stage.new_version()
    for folder in (stage.dot_git / "hooks", stage.folder / "hooks"):
        folder.mkdir(exist_ok=True)
        for name in HOOKS:
            shutil.copy(stage.command, folder / name)
    stage.config("core.hooksPath", str(stage.folder / "hooks"))


def _lazy(stage: Stage) -> None:
    """The repository says that what it lacks is to be had elsewhere, by a command."""
    stage.new_version()
    blob = stage.repo.git("rev-parse", "HEAD:manifest.yaml")
    (stage.dot_git / "objects" / blob[:2] / blob[2:]).unlink()
    stage.config("core.repositoryformatversion", "1")
    stage.config("extensions.partialClone", "origin")
    stage.config("remote.origin.promisor", "true")
    stage.config("remote.origin.url", str(stage.outside))
    stage.config("remote.origin.uploadpack", str(stage.command))


def _alternates(stage: Stage) -> None:
    stage.new_version()
    (stage.dot_git / "objects" / "info").mkdir(exist_ok=True)
    (stage.dot_git / "objects" / "info" / "alternates").write_text(f"{stage.outside}\n")
    stage.config("core.alternateRefsCommand", str(stage.command))


def _git_file(stage: Stage) -> None:
    """`.git` is a file that points to another repository, which has another manifest."""
    other = Repo(stage.folder / "other")
    other.write("manifest.yaml", MANIFEST.format(number=3))
    other.commit_all()
    shutil.rmtree(stage.dot_git)
    stage.dot_git.write_text(f"gitdir: {other.folder}/.git\n")


def _commondir(stage: Stage) -> None:
    (stage.dot_git / "commondir").write_text(f"{stage.outside}\n")
    shutil.rmtree(stage.dot_git / "refs")


def _grafts(stage: Stage) -> None:
    stage.new_version()
    (stage.dot_git / "info").mkdir(exist_ok=True)
    (stage.dot_git / "info" / "grafts").write_text(f"{stage.repo.head()}\n")


def _shallow_lie(stage: Stage) -> None:
    """It says that its newest commit has no parents: who descends from whom cannot be seen any more."""
    stage.new_version()
    (stage.dot_git / "shallow").write_text(f"{stage.repo.head()}\n")


def _garbage_refs(stage: Stage) -> None:
    (stage.dot_git / "packed-refs").write_bytes(b"\0garbage\n" + b"x" * 5000)
    shutil.rmtree(stage.dot_git / "refs" / "heads")
    (stage.dot_git / "refs" / "heads").mkdir()


def _replaced(stage: Stage) -> None:
    first = stage.repo.head()
    stage.new_version()
    stage.repo.git("replace", stage.repo.head(), first)


def _worktree(stage: Stage) -> None:
    stage.new_version()
    (stage.dot_git / "config.worktree").write_text(f"[core]\n\tfsmonitor = {stage.command}\n")
    stage.config("extensions.worktreeConfig", "true")


def _both_names(stage: Stage) -> None:
    """A tag of the branch's name: what is asked for is the branch."""
    stage.repo.git("tag", "main")
    stage.new_version()


def _linked_ref(stage: Stage) -> None:
    """The branch is a link to a file elsewhere, whose bytes must not show."""
    ref = stage.dot_git / "refs" / "heads" / "main"
    ref.unlink()
    ref.symlink_to(stage.outside / "secret")


LAYOUTS: tuple[tuple[str, Plant, str | Kind], ...] = (
    ("every hook", hooks, FOLLOWED),
    ("a promisor that is a command", _lazy, Kind.UNREACHABLE),
    ("alternates elsewhere", _alternates, FOLLOWED),
    (".git points elsewhere", _git_file, Kind.NOT_FORWARD),
    ("commondir elsewhere", _commondir, Kind.UNREACHABLE),
    ("grafts", _grafts, FOLLOWED),
    ("a shallow lie", _shallow_lie, Kind.NOT_FORWARD),
    ("packed-refs of garbage", _garbage_refs, Kind.UNREACHABLE),
    ("a replaced commit", _replaced, FOLLOWED),
    ("a configuration of the work tree", _worktree, FOLLOWED),
    ("a tag of the same name", _both_names, FOLLOWED),
    ("a ref that is a link", _linked_ref, Kind.REF_MISSING),
)


# ── T3: objects that git would not make ────────────────────────────────────────────────────────────────────────────


def _tree(*entries: tuple[str, str]) -> Plant:
    """A tree with the manifest, and entries of any mode and name."""

    def plant(stage: Stage) -> None:
        repo = stage.repo
        good = repo.object("blob", MANIFEST.format(number=2).encode())
        link = repo.object("blob", b"../../../../outside/secret")
        evil = repo.object("blob", f"[core]\n\tfsmonitor = {stage.command}\n".encode())
        inner = repo.tree(("100644", "config", evil))
        made = [("100644", "manifest.yaml", good)]
        for mode, name in entries:
            blob = link if mode == "120000" else inner if mode == "40000" else repo.head() if mode == "160000" else evil
            made = [entry for entry in made if name != "manifest.yaml"] + [(mode, name, blob)]
        made.sort(key=lambda entry: entry[1] + ("/" if entry[0] == "40000" else ""))
        repo.commit_of(repo.tree(*made), repo.head())

    return plant


TREES: tuple[tuple[str, Plant, str | Kind], ...] = (
    ("..", _tree(("40000", "..")), Kind.UNTRUSTED),
    (".", _tree(("40000", ".")), Kind.UNTRUSTED),
    (".git", _tree(("40000", ".git")), Kind.UNTRUSTED),
    (".GIT", _tree(("40000", ".GIT")), Kind.UNTRUSTED),
    ("a/b", _tree(("100644", "a/b")), Kind.UNTRUSTED),
    ("../outside/x", _tree(("100644", "../outside/x")), Kind.UNTRUSTED),
    ("twice", _tree(("100644", "a"), ("100644", "a")), Kind.UNTRUSTED),
    (".gitmodules is a link", _tree(("120000", ".gitmodules")), Kind.UNTRUSTED),
    (".gitattributes is a link", _tree(("120000", ".gitattributes")), FOLLOWED),
    ("a link beside", _tree(("120000", "policies")), FOLLOWED),
    ("an env file is a link", _tree(("120000", "app.env")), FOLLOWED),
    ("a name with a newline", _tree(("100644", "a\nb.env")), FOLLOWED),
    ("a name with an escape", _tree(("100644", "a\x1b[2Jb.env")), FOLLOWED),
    ("a name like an option", _tree(("100644", "--upload-pack=x")), FOLLOWED),
    ("a setuid mode", _tree(("104755", "run")), FOLLOWED),
    ("a submodule", _tree(("160000", "module")), FOLLOWED),
    ("the manifest is a link", _tree(("120000", "manifest.yaml")), Kind.REJECTED),
    ("the manifest is a submodule", _tree(("160000", "manifest.yaml")), Kind.REJECTED),
    ("the manifest is a folder", _tree(("40000", "manifest.yaml")), Kind.REJECTED),
)


def _words(author: bytes = b"Ann <a@b>", message: bytes = b"two\n", more: bytes = b"") -> Plant:
    def plant(stage: Stage) -> None:
        repo = stage.repo
        blob = repo.object("blob", MANIFEST.format(number=2).encode())
        repo.commit_of(
            repo.tree(("100644", "manifest.yaml", blob)), repo.head(), author=author, more=more, message=message
        )

    return plant


WORDS: tuple[tuple[str, Plant, str | Kind], ...] = (
    ("ANSI in the subject", _words(message=b"\x1b[2J\x1b]52;c;eA==\x07fine\n"), FOLLOWED),
    ("bidi in the subject", _words(message="\u202egood\u2066\n".encode()), FOLLOWED),
    ("a subject of 1 MB", _words(message=b"x" * 1_000_000), FOLLOWED),
    ("a message that is too large", _words(message=b"x\n" + b"y" * 2_000_000), Kind.UNTRUSTED),
    ("a subject that is no text", _words(message=b"\xff\xfe\x80\n"), FOLLOWED),
    ("a script as an author", _words(author=b"<script>alert(1)</script> <a@b>"), Kind.UNTRUSTED),
    ("ANSI in the author", _words(author=b"A\x1b[31m\x1b]0;t\x07 <a@b>"), FOLLOWED),
    ("NUL in the author", _words(author=b"A\0B <a@b>"), Kind.UNTRUSTED),
    ("no author", _words(author=b""), Kind.UNTRUSTED),
    ("headers that nobody knows", _words(more=b"x-evil " + b"a" * 100_000 + b"\n"), FOLLOWED),
    ("an encoding", _words(more=b"encoding UTF-16\n", message=b"\xff\xfea\n"), FOLLOWED),
    ("two trees", _words(more=b"tree " + b"0" * 40 + b"\n"), Kind.UNTRUSTED),
)


def _submodules(url: str, path: str = "module") -> Plant:
    def plant(stage: Stage) -> None:
        filled = url.replace("COMMAND", str(stage.command))
        stage.repo.write(
            ".gitmodules", f'[submodule "x"]\n\tpath = {path}\n\turl = {filled}\n\tupdate = !{stage.command}\n'
        )
        stage.new_version()

    return plant


SUBMODULES: tuple[tuple[str, Plant, str | Kind], ...] = (
    ("-u in the address", _submodules("-u./payload"), Kind.UNTRUSTED),
    ("ext:: in the address", _submodules("ext::sh -c COMMAND"), Kind.UNTRUSTED),
    ("a path that leads out", _submodules("https://example.invalid/x", "../../outside"), Kind.UNTRUSTED),
    ("an update that is a command", _submodules("https://example.invalid/x"), Kind.UNTRUSTED),
)


def _bomb(stage: Stage) -> None:
    """64 MB of nothing, a few kB as git keeps it."""
    stage.repo.write("manifest.yaml", b"#" * 64 * 1024 * 1024)
    stage.repo.commit_all()


def _bomb_beside(stage: Stage) -> None:
    stage.repo.write("app.env", b"#" * 64 * 1024 * 1024)
    stage.new_version()


def _deep(stage: Stage) -> None:
    stage.repo.write("/".join(["d"] * 400) + "/x.env", "A=1\n")
    stage.new_version()


SIZES: tuple[tuple[str, Plant, str | Kind], ...] = (
    ("a manifest that unpacks to 64 MB", _bomb, Kind.TOO_BIG),
    ("an env file that unpacks to 64 MB", _bomb_beside, FOLLOWED),
    ("400 folders deep", _deep, FOLLOWED),
)


# ── T4: names and addresses ────────────────────────────────────────────────────────────────────────────────────────

ADDRESSES = (
    *(
        "ext::sh -c COMMAND",
        "ext::COMMAND %S",
        "fd::17",
        "fd::17/x",
        "-x",
        "--upload-pack=COMMAND",
        "-oProxyCommand=COMMAND",
    ),
    *("ssh://-oProxyCommand=COMMAND/x", "ssh://u@-oProxyCommand=x/y", "-oProxyCommand=x:y", "git@-oProxyCommand=x:y"),
    *("file://host/x", "file:x", "file:///a/../b", "/a/../b", "relative/path", "../x", "http://example.com/x"),
    *("git://example.com/x", "ftp://example.com/x", "https://example.com/x y", "https://example.com/x\n", "https:///x"),
    *("https://example.com/$(x)", "https://example.com/`x`", "https://example.com/x;y", "https://example.com/\x1b[2J"),
    *(f"https://user:{SECRET}@example.com/x", f"https://{SECRET}@example.com/x", f"ssh://u:{SECRET}@example.com/x"),
    *(
        "",
        "x" * 3000,
        "https://ex\u0430mple.com/x",
        "javascript:x",
        "https://example.com:99999/x",
        "::1",
        "transport::address",
    ),
)
BRANCHES = (
    *(
        "-evil",
        "--upload-pack=x",
        "a..b",
        "a\nb",
        "a b",
        "a~1",
        "a^",
        "a:b",
        "a?",
        "a*",
        "a[",
        "a\\b",
        "a@{1}",
        "@",
        "/a",
    ),
    *("a/", "a//b", ".a", "a/.b", "a.lock", "a.", "a\x1b[2J", "", "x" * 300, "a\u202eb"),
)
PATHS = (
    *("../x", "a/../../x", "/abs", "//x", "a//b", "./x", "a/./b", "a\\b", "a\0b", ".git/config", "a/.GIT/x", "", "x/"),
    *("-x", ":(glob)**", "a\nb", "x" * 3000, "x" * 256),
)
COMMITS = ("HEAD", "main", "a" * 39, "A" * 40, "-" * 40, "a" * 41, "", "refs/heads/main", "a" * 40 + "\n")


def _names() -> Iterator[BadAddress]:
    for name, values in (("url", ADDRESSES), ("branch", BRANCHES), ("path", PATHS), ("commit", COMMITS)):
        for number, value in enumerate(values):
            yield BadAddress("T4", f"{name} {number}", {name: value})


def _evil_branch(stage: Stage) -> None:
    """Refs whose names are options, and one that is asked for by a plain name."""
    stage.new_version()
    head = stage.repo.head()
    for name in ("-evil", "--upload-pack=x", "--exec=x"):
        stage.repo.point(head, f"refs/heads/{name}")


# ── T5: the environment and the programs that the daemon was started with ──────────────────────────────────────────


def _plain(stage: Stage) -> None:
    stage.new_version()


def _home(stage: Stage) -> None:
    stage.new_version()
    home = stage.folder / "home"
    (home / "git").mkdir(parents=True)
    (home / ".ssh").mkdir()
    evil = f"[core]\n\tsshCommand = {stage.command}\n\tfsmonitor = {stage.command}\n\tpager = {stage.command}\n"
    for path in (home / ".gitconfig", home / "git" / "config", home / "evil.config"):
        path.write_text(f'{evil}[url "{stage.outside}"]\n\tinsteadOf = {stage.repo.folder}\n')
    programs = stage.folder / "bin"
    programs.mkdir()
    for name in ("git", "ssh", "prlimit", "gpg", "ssh-keygen", "git-upload-pack", "cat"):
        shutil.copy(stage.command, programs / name)


ENVIRONMENTS: Mapping[str, Mapping[str, str]] = {
    "GIT_DIR": {"GIT_DIR": "FOLDER/outside"},
    "GIT_WORK_TREE": {"GIT_WORK_TREE": "FOLDER/outside"},
    "GIT_CONFIG_COUNT": {
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": "COMMAND",
        "GIT_CONFIG_KEY_1": "uploadpack.packObjectsHook",
        "GIT_CONFIG_VALUE_1": "COMMAND",
    },
    "GIT_CONFIG_PARAMETERS": {"GIT_CONFIG_PARAMETERS": "'uploadpack.packObjectsHook=COMMAND'"},
    "GIT_SSH_COMMAND": {"GIT_SSH_COMMAND": "COMMAND", "GIT_SSH": "COMMAND"},
    "GIT_EXTERNAL_DIFF": {"GIT_EXTERNAL_DIFF": "COMMAND"},
    "GIT_PROXY_COMMAND": {"GIT_PROXY_COMMAND": "COMMAND", "ALL_PROXY": "http://127.0.0.1:1"},
    "GIT_TRACE": {"GIT_TRACE": "FOLDER/tripwire", "GIT_TRACE2_EVENT": "FOLDER/tripwire", "GIT_TRACE_PACKET": "1"},
    "GIT_EXEC_PATH": {"GIT_EXEC_PATH": "FOLDER/bin"},
    "GIT_TEMPLATE_DIR": {"GIT_TEMPLATE_DIR": "FOLDER/outside"},
    "GIT_OBJECT_DIRECTORY": {
        "GIT_OBJECT_DIRECTORY": "FOLDER/outside",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": "FOLDER/outside",
    },
    "GIT_ASKPASS": {
        "GIT_ASKPASS": "COMMAND",
        "SSH_ASKPASS": "COMMAND",
        "SSH_ASKPASS_REQUIRE": "force",
        "DISPLAY": ":1",
    },
    "GIT_PAGER": {"GIT_PAGER": "COMMAND", "PAGER": "COMMAND", "GIT_EDITOR": "COMMAND", "EDITOR": "COMMAND"},
    "GIT_NAMESPACE": {"GIT_NAMESPACE": "evil", "GIT_REPLACE_REF_BASE": "refs/heads"},
    "GIT_ALLOW_PROTOCOL": {"GIT_ALLOW_PROTOCOL": "ext:file", "GIT_PROTOCOL_FROM_USER": "1"},
    "GIT_CONFIG_GLOBAL": {
        "GIT_CONFIG_GLOBAL": "FOLDER/home/evil.config",
        "GIT_CONFIG_SYSTEM": "FOLDER/home/evil.config",
    },
    "HOME": {"HOME": "FOLDER/home", "XDG_CONFIG_HOME": "FOLDER/home"},
    "PATH": {"PATH": "FOLDER/bin:/usr/bin:/bin"},
    "LD_PRELOAD": {"GIT_SHELL_PATH": "COMMAND", "SHELL": "COMMAND", "BASH_ENV": "COMMAND", "ENV": "COMMAND"},
    "GIT_CEILING_DIRECTORIES": {"GIT_CEILING_DIRECTORIES": "/", "GIT_DISCOVERY_ACROSS_FILESYSTEM": "1"},
}

CASES: tuple[Attack, ...] = (
    *_configurations(),
    *(FromGit("T2", name, plant, expect) for name, plant, expect in LAYOUTS),
    *(FromGit("T3", f"tree: {name}", plant, expect) for name, plant, expect in TREES),
    *(FromGit("T3", f"commit: {name}", plant, expect) for name, plant, expect in WORDS),
    *(FromGit("T3", f"submodule: {name}", plant, expect) for name, plant, expect in SUBMODULES),
    *(FromGit("T3", f"size: {name}", plant, expect) for name, plant, expect in SIZES),
    FromGit("T4", "refs named like options", _evil_branch),
    *_names(),
    *(FromGit("T5", name, _home, environment=values) for name, values in ENVIRONMENTS.items()),
)
