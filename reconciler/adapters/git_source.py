"""A manifest in a git repository, as the Source port: a thread follows the repository, the loop reads plain files.

    state/git/
    ├── mirror/       our bare copy; it may be lost at any time
    ├── trees/<id>/   the files of the last few commits that were accepted
    └── state.json    which of them is in force, in an envelope

What is in force stays in force until another commit has been fetched, judged and written down: a remote that is down, a
branch that was deleted, history that was rewritten, and a stranger's commit are told, and change nothing.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import structlog

from reconciler.adapters.git_command import Git, GitError
from reconciler.adapters.git_follow import Follower, Look, Refusal
from reconciler.adapters.git_signatures import Signers
from reconciler.adapters.git_state import Kept, load_state, save_state
from reconciler.adapters.git_turns import Turns
from reconciler.adapters.git_watch import RefsWatch
from reconciler.adapters.git_write import Change, Raced, Writer
from reconciler.adapters.state_dir import StateDir
from reconciler.core.errors import Problem, Refused, StateError
from reconciler.core.git_config import GitConfig
from reconciler.core.git_poll import next_look_s
from reconciler.core.git_status import GitStatus, Synced
from reconciler.core.provenance import Commit
from reconciler.core.trust import SHOWN, Kind, Trouble
from reconciler.formats import git_failure, git_url
from reconciler.ports import Clock, Loaded

GAP_S = 0.5
"""So long after a look began the next one begins at the earliest, however many hints come."""
AGAIN_S = 2.0
"""When there is one more look after a hint that came before there was anything to see."""
SYNC_S = 180.0


class Reader(Protocol):
    """What reads the files of one commit."""

    def load(self) -> Loaded:
        """As the Source port."""
        ...


@dataclass(frozen=True, slots=True)
class _View:
    """All that is known, replaced as a whole: whoever reads it needs no lock."""

    kept: Kept | None = None
    reader: Reader | None = None
    refusal: Refusal | None = None
    trouble: Trouble | None = None
    trouble_since: str = ""
    problems: tuple[Problem, ...] = ()
    newest: str | None = None
    looked_at: str = ""
    looks: int = 0
    failures: int = 0
    repaired: str = ""


class GitSource:
    """The Source port over a repository. ValueError and StateError where the configuration or the state cannot be used.

    `read` makes a reader of a manifest's path; `wake` is called, from a thread of this one's, when there is news.
    `owner` is who must have written the files that say who is trusted: root, but in tests.
    """

    def __init__(
        self,
        config: GitConfig,
        state_dir: Path,
        times: Clock,
        read: Callable[[Path], Reader],
        wake: Callable[[str], None],
        *,
        owner: int = 0,
        git: Git | None = None,
    ) -> None:
        self._config = config
        self._remote = git_url.remote(config.url)
        self._clock, self._read, self._wake = times, read, wake
        self._state = StateDir(state_dir).open()
        folder = self._state.path / "git"
        (folder / "home").mkdir(mode=0o700, parents=True, exist_ok=True)
        self._git = git or Git(folder / "home")
        self._follower = Follower(config, self._remote, folder, self._git, Signers(config, folder / "trust", owner))
        self._next_at: float | None = None
        self._hinted, self._stopping = threading.Event(), threading.Event()
        self._turns = Turns(folder / "lock", self._follower.source, self._stopping)
        self._thread: threading.Thread | None = None
        self._watch: RefsWatch | None = None
        self._view = self._restored()

    # ------------------------------------------------------------ the port

    def load(self) -> Loaded:
        """The manifest of the commit in force, and what keeps the repository from being followed further."""
        view = self._view
        if view.kept is None or view.reader is None:
            return self._nothing_yet(view)
        return replace(view.reader.load(), commit=view.kept.commit, trouble=view.problems)

    @property
    def path(self) -> Path | None:
        """Where the manifest in force is on this host, None where there is none yet."""
        kept = self._view.kept
        return None if kept is None else self._manifest_of(kept.commit.id)

    @property
    def reader(self) -> Reader | None:
        """Who reads the manifest in force."""
        return self._view.reader

    def _nothing_yet(self, view: _View) -> Loaded:
        words = view.trouble.message if view.trouble else f"{self._follower.source} has not been read yet"
        problems = view.problems or (self._problem(words),)
        digest = sha256(words.encode("utf-8", "replace")).hexdigest()
        return Loaded(digest, None, problems, settled=view.trouble is not None, parsed=False)

    # ------------------------------------------------------------ the thread

    def start(self) -> None:
        """Afterwards the repository is followed, until `stop`."""
        if self._thread is not None:
            return
        if self._remote.folder is not None:
            self._watch = RefsWatch(Path(self._remote.folder), lambda: self.hint("refs changed"))
        self._thread = threading.Thread(target=self._follow, name="git-source", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Afterwards nothing of it runs: a git that is at work is ended."""
        self._stopping.set()
        self._hinted.set()
        self._git.close()
        if self._watch is not None:
            self._watch.stop()
        if self._thread is not None:
            self._thread.join(5.0)
            self._thread = None
        self._state.close()

    def hint(self, words: str) -> None:
        """Look now: somebody says that there is something new. Hints that come together are one."""
        structlog.get_logger().debug("git.hinted", reason=words)
        self._hinted.set()

    def _follow(self) -> None:
        is_hinted, wait_s = True, 0.0
        while not self._stopping.is_set():
            began = self._clock.monotonic()
            before = self._view
            self._look_once(forgive=is_hinted)
            is_new = self._view.kept != before.kept or self._view.trouble != before.trouble
            chance = random.random()
            wait_s = next_look_s(self._config.poll_s, self._view.failures, chance)
            if is_hinted and before.looks and not is_new:
                wait_s = min(wait_s, AGAIN_S)
            self._next_at = self._clock.monotonic() + wait_s
            is_hinted = self._hinted.wait(wait_s)
            self._hinted.clear()
            self._stopping.wait(max(0.0, GAP_S - (self._clock.monotonic() - began)))

    def _look_once(self, *, forgive: bool) -> None:
        try:
            with self._turns.alone(SYNC_S):
                if not self._stopping.is_set():
                    self._look(forgive=forgive)
        except Refused as refused:
            structlog.get_logger().warning("git.waited", reason=str(refused))

    def _look(self, *, forgive: bool) -> None:
        """One look, whatever comes of it; `forgive` ends a row of failures."""
        self._view = view = self._as_others_left_it(replace(self._view, failures=0) if forgive else self._view)
        try:
            found = self._follower.look(view.kept.commit if view.kept else None, view.refusal)
        except Exception as error:  # noqa: BLE001  the thread must outlive a bug: nobody would look any more
            structlog.get_logger().exception("git.failed", source=self._follower.source)
            found = Look(trouble=Trouble(Kind.UNREACHABLE, f"{self._follower.source}: a bug of ours: {error!r}"[:500]))
        self._tell(found)

    def _as_others_left_it(self, view: _View) -> _View:
        """The view with what another process of ours has accepted meanwhile, such as a command without a daemon."""
        kept, _ = load_state(self._state, self._config)
        if kept is None or kept == view.kept or not self._follower.trees.has(kept.commit.id):
            return view
        return replace(view, kept=kept, reader=self._read(self._manifest_of(kept.commit.id)))

    # ------------------------------------------------------------ what a look found

    def _tell(self, look: Look) -> None:
        before = self._view
        view = replace(before, looks=before.looks + 1, looked_at=self._clock.timestamp())
        if look.newest is not None:
            view = replace(view, newest=look.newest)
        if look.repaired:
            view = replace(view, repaired=f"{view.looked_at}: {look.repaired}")
        if look.taken is not None:
            try:
                view = self._taken(view, look.taken)
            except StateError as error:
                look = Look(look.newest, trouble=Trouble(Kind.UNREACHABLE, f"{self._follower.source}: {error}"))
        is_refused = look.refusal is not None and look.refusal.is_sure
        view = replace(
            view,
            refusal=look.refusal if look.newest is not None else view.refusal,
            failures=view.failures + 1 if look.trouble is not None and not is_refused else 0,
        )
        view = self._with_trouble(view, look.trouble)
        self._view = view
        if view.kept != before.kept or view.trouble != before.trouble or look.repaired:
            self._wake(f"git: {look.taken.short if look.taken else view.trouble.kind if view.trouble else 'reachable'}")

    def _taken(self, view: _View, commit: Commit) -> _View:
        previous = () if view.kept is None else (view.kept.commit.id, *view.kept.previous)
        kept = Kept(commit, view.looked_at, tuple(dict.fromkeys(one for one in previous if one != commit.id))[:2])
        save_state(self._state, self._config, kept)
        self._follower.trees.keep((commit.id, *kept.previous))
        structlog.get_logger().info("git.accepted", commit=commit.id, author=commit.author, subject=commit.subject)
        return replace(view, kept=kept, reader=self._read(self._manifest_of(commit.id)))

    def _with_trouble(self, view: _View, trouble: Trouble | None) -> _View:
        """The same trouble is the same problem, so that it is recorded once."""
        if trouble == view.trouble or git_failure.is_same(trouble, view.trouble):
            return view
        if trouble is None:
            structlog.get_logger().info("git.recovered", source=self._follower.source)
            return replace(view, trouble=None, trouble_since="", problems=())
        structlog.get_logger().warning("git.troubled", kind=trouble.kind.value, reason=trouble.message)
        problems = (self._problem(trouble.message),)
        return replace(view, trouble=trouble, trouble_since=view.looked_at, problems=problems)

    def _problem(self, message: str) -> Problem:
        return Problem(self._config.path, 0, 0, message)

    def _manifest_of(self, commit: str) -> Path:
        return self._follower.trees.path(commit) / self._config.path.rpartition("/")[2]

    def _restored(self) -> _View:
        """What was in force when the daemon ended, if it is about this repository."""
        kept, why = load_state(self._state, self._config)
        if why:
            structlog.get_logger().warning("git.forgot", reason=why)
        if kept is None or not self._follower.trees.has(kept.commit.id):
            return _View(kept=kept)
        return _View(kept=kept, reader=self._read(self._manifest_of(kept.commit.id)), newest=kept.commit.id)

    # ------------------------------------------------------------ operators

    def status(self) -> GitStatus:
        """How things are."""
        view = self._view
        wait_s = None if self._next_at is None else max(0.0, self._next_at - self._clock.monotonic())
        return GitStatus(
            url=self._remote.shown,
            ref=self._config.ref,
            path=self._config.path,
            accepted=view.kept.commit if view.kept else None,
            accepted_at=view.kept.at if view.kept else "",
            newest=view.newest,
            looked_at=view.looked_at,
            next_look_s=wait_s,
            failures=view.failures,
            trouble=view.trouble,
            trouble_since=view.trouble_since,
            refused=view.refusal.commit if view.refusal else None,
            repaired=view.repaired,
            is_watched=self._watch is not None and self._watch.is_watching,
        )

    def sync(self, timeout_s: float = SYNC_S) -> Synced:
        """Look now, and wait for it. Raises Refused where another look is still under way after `timeout_s`."""
        before = self._view.kept
        with self._turns.alone(timeout_s):
            self._look(forgive=True)
        return Synced(self.status(), self._view.kept != before)

    def accept(self, prefix: str, reason: str, actor: str) -> Commit:
        """The refused commit whose id begins with `prefix` is in force; Refused where that cannot be.

        Exactly that one: what follows it is judged as ever.
        """
        with self._turns.alone(SYNC_S):
            refusal = self._view.refusal
            if refusal is None:
                raise Refused(
                    "no commit is refused, so there is none to accept. `reconcilerctl status` shows the state."
                )
            if len(prefix) < 7 or not refusal.commit.id.startswith(prefix.lower()):
                raise Refused(f"the commit that is refused is {refusal.commit.id[:SHOWN]}, not {prefix[:64]}. Name it.")
            look = self._follower.pardon(refusal.commit.id, self._view.kept.commit if self._view.kept else None)
            if look.taken is None:
                words = look.trouble.message if look.trouble else "nobody knows why"
                raise Refused(f"{refusal.commit.id[:SHOWN]} cannot be accepted: {words}")
            structlog.get_logger().warning("git.pardoned", commit=look.taken.id, reason=reason, actor=actor)
            self._tell(look)
            if (trouble := self._view.trouble) is not None:
                raise Refused(trouble.message)
            return look.taken

    @property
    def writes_back(self) -> bool:
        """Whether `write` is allowed."""
        return self._config.write_back is not None

    def write(self, change: Callable[[bytes], bytes], message: str) -> Commit:
        """The manifest with `change` made is committed, pushed and in force; Refused where that cannot be.

        A push that loses a race is made anew on top of what won, as often as is configured.
        """
        back = self._config.write_back
        if back is None:
            raise Refused("write_back is not set up, so the manifest in git is its authors' to write. docs/git.md")
        writer = Writer(self._config, self._remote, self._state.path / "git", self._git)
        for _ in range(back.attempts):
            with self._turns.alone(SYNC_S), suppress(Raced):
                return self._written(writer, change, message)
        raise Refused(f"{self._follower.source}: others pushed {back.attempts} times while we tried to. Say it again.")

    def _written(self, writer: Writer, change: Callable[[bytes], bytes], message: str) -> Commit:
        self._look(forgive=True)
        kept, trouble, path = self._view.kept, self._view.trouble, self.path
        if kept is None or path is None or trouble is not None:
            why = trouble.message if trouble else "nothing is in force yet"
            raise Refused(f"the repository cannot be written back to now: {why}")
        text = path.read_bytes()
        content = change(text)
        if content == text:
            return kept.commit
        try:
            made = writer.write(Change(kept.commit.id, self._config.path, content, message))
        except Raced:
            raise
        except (GitError, OSError) as error:
            raise Refused(f"the manifest in git could not be written: {error}") from error
        self._look(forgive=True)
        now = self._view.kept
        if now is None or now.commit.id != made:
            why = self._view.trouble.message if self._view.trouble else "another commit is in force"
            raise Refused(f"{made[:SHOWN]} was pushed, but it is not in force: {why}")
        return now.commit

    def manifest_at(self, commit: str) -> Loaded:
        """The manifest as a commit has it (an id, or seven or more characters of it); nothing is accepted by that."""
        try:
            prefix = git_url.prefix(commit)
        except ValueError as error:
            return self._unknown(f"{commit[:64]!r}: {error}")
        with self._turns.alone(SYNC_S):
            found = self._follower.fetch_tree(prefix)
            if isinstance(found, Trouble):
                return self._unknown(found.message)
            loaded = self._read(self._manifest_of(found.id)).load()
            kept = self._view.kept
            self._follower.trees.keep((found.id, *((kept.commit.id, *kept.previous) if kept else ())))
        return replace(loaded, settled=True, commit=found)

    def _unknown(self, words: str) -> Loaded:
        digest = sha256(words.encode("utf-8", "replace")).hexdigest()
        return Loaded(digest, None, (self._problem(words),), parsed=False)
