"""Our own bare copy of a repository: what is fetched, who descends from whom, and what stands in a tree.

Nothing is ever checked out. The configuration is written by us, before every use; one ref is fetched, never tags or
submodules. Reading speaks no protocol at all: what was not fetched is missing, and is never fetched on the way.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.adapters import clock
from reconciler.adapters.git_command import Done, Git, GitError, GitTimeout, GitTooMuch, Limits, Setting
from reconciler.core.trust import Relation
from reconciler.formats import git_commit, git_output
from reconciler.formats.git_output import Entry, GitOutputError

CANDIDATE = "refs/reconciler/candidate"
ACCEPTED = "refs/reconciler/accepted"
FILE_MAX_BYTES = 1024 * 1024
DEPTHS = (50, 1000, 20_000, 2_147_483_647)
"""So much of the history is fetched, one after the other, until the accepted commit is met; the last is all of it."""
LIST_MAX_BYTES = 16 * 1024 * 1024
VERIFIED_AT_ONCE = 500
BETWEEN_MAX = 100_000
"""So many commits may have come at once; nobody makes more between two looks."""
PACKS_MAX = 100
"""With more of them a new copy is fetched instead: git would take longer and longer to look into each."""
LEFT_BEHIND_S = 300.0
_FREE_BYTES = 64 * 1024 * 1024
_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n"
_LOCKS = ("HEAD.lock", "index.lock", "shallow.lock", "config.lock", "packed-refs.lock", "gc.pid", "gc.pid.lock")
_PLANTED = ("objects/info/alternates", "objects/info/http-alternates", "info/grafts", "info/attributes", "refs/replace",
            "hooks", "commondir", "config.worktree", "worktrees", "modules")  # fmt: skip


class MirrorDamaged(GitError):
    """Our own copy cannot be read, or somebody changed it: it is made anew."""


@dataclass(frozen=True, slots=True)
class Followed:
    """How far a candidate's history was followed, and what came between it and the accepted commit (newest first).

    Where the accepted one was not met, `history` is how many commits were looked at.
    """

    relation: Relation
    between: tuple[str, ...] = ()
    history: int = 0


class Mirror:
    """A bare repository in `folder`, filled from `url`. Only one thread may use it."""

    def __init__(self, git: Git, folder: Path, url: str, *, timeout_s: float, max_bytes: int) -> None:
        self.folder = folder
        self._git = git
        self._url = url
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._known: dict[str, git_commit.RawCommit] = {}

    # ------------------------------------------------------------ the folder

    def make_sure(self) -> None:
        """Afterwards there is a repository of ours. Raises MirrorDamaged where it is not as we left it."""
        if not self.folder.exists():
            self.folder.mkdir(mode=0o700, parents=True)
            self._git.run(["init", "--quiet", "--bare", "--template=", "--", str(self.folder)], self._limits())
        if not (self.folder / "objects" / "pack").is_dir() or not (self.folder / "HEAD").is_file():
            raise MirrorDamaged(f"{self.folder} is no repository any more")
        planted = [name for name in _PLANTED if (self.folder / name).exists() or (self.folder / name).is_symlink()]
        packed = self.folder / "packed-refs"
        if packed.exists() and b"refs/replace/" in packed.read_bytes()[:1_000_000]:
            planted.append("packed-refs")
        if planted:
            raise MirrorDamaged(f"somebody put {planted[0]} into {self.folder}, which could change what is read")
        self._tidy()
        self._own_config()

    def _own_config(self) -> None:
        """The configuration is ours again: a fetch notes there from where objects may be fetched later, on the way."""
        with suppress(FileNotFoundError):
            if (self.folder / "config").read_text() == _CONFIG:
                return
        temporary = self.folder / "config.reconciler"
        temporary.write_text(_CONFIG)
        temporary.replace(self.folder / "config")

    def _tidy(self) -> None:
        """Remove locks that a killed git left behind, and what it had begun to write: old, and nobody works there."""
        old = [path for path in self._leftovers() if _age_s(path) > LEFT_BEHIND_S]
        if old and not _is_at_work(self.folder):
            for path in old:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    def _leftovers(self) -> Iterator[Path]:
        yield from (self.folder / name for name in _LOCKS if (self.folder / name).exists())
        yield from (self.folder / "refs").rglob("*.lock")
        yield from (self.folder / "objects").glob("incoming-*")
        yield from (self.folder / "objects").glob("tmp_objdir-*")
        yield from (self.folder / "objects" / "pack").glob("tmp_*")

    def is_worn(self) -> bool:
        """Whether it is time for a new copy: too many packs, or more bytes than a repository may have."""
        packs = [entry.stat().st_size for entry in os.scandir(self.folder / "objects" / "pack")
                 if entry.name.endswith(".pack")]  # fmt: skip
        return len(packs) > PACKS_MAX or sum(packs) > 2 * self._max_bytes

    # ------------------------------------------------------------ the remote

    def remote_id(self, setting: Setting, ref: str) -> str | None:
        """The id that `ref` has there now, of a tag that of its commit; None where there is none. Raises GitError."""
        names = [ref, f"{ref}^{{}}"] if ref.startswith("refs/tags/") else [ref]
        done = self._git.run(["ls-remote", "--quiet", "--end-of-options", self._url, *names], self._limits(), setting)
        return git_output.ref(done.output, ref)

    def fetch(self, setting: Setting, ref: str, base: str | None) -> tuple[str, Followed]:
        """Fetch what `ref` names, with its history back to `base`: its commit's id, and how it stands to `base`.

        Raises GitError where it cannot be had.
        """
        if base is None:
            return self._fetched(setting, ref, 1), Followed(Relation.FIRST)
        found, followed = "", Followed(Relation.UNKNOWN)
        for depth in DEPTHS if self.has(base) else (1, *DEPTHS):
            try:
                found = self._fetched(setting, ref, depth, commits_only=depth > DEPTHS[0])
            except (GitTimeout, GitTooMuch):
                if not found:
                    raise
                break  # it is as deep as it may get
            followed = self.followed(found, base)
            if followed.relation is not Relation.UNKNOWN:
                break
        return found, followed

    def _fetched(self, setting: Setting, ref: str, depth: int, *, commits_only: bool = False) -> str:
        words = [
            *("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-gc"),
            *(
                "--force",
                f"--depth={depth}",
                "--filter=" + ("tree:0" if commits_only else f"blob:limit={FILE_MAX_BYTES + 1}"),
            ),
            *("--end-of-options", self._url, f"+{ref}:{CANDIDATE}"),
        ]
        try:
            self._run(words, replace(self._limits(), file_bytes=self._room()), setting)
        finally:
            self._own_config()
        done = self._read("rev-parse", "--verify", "--end-of-options", f"{CANDIDATE}^{{commit}}")
        return git_output.one_id(done)

    def _room(self) -> int:
        """Bytes that one file may have. Raises GitTooMuch where the disk is nearly full."""
        free = shutil.disk_usage(self.folder).free - _FREE_BYTES
        if free < 1024 * 1024:
            raise GitTooMuch(f"the disk of {self.folder} is nearly full: nothing is fetched")
        return min(self._max_bytes, free)

    def accept(self, commit: str) -> None:
        """Keep `commit` for as long as this copy lives."""
        self._run(["update-ref", ACCEPTED, commit], self._limits())

    # ------------------------------------------------------------ history

    def has(self, commit: str) -> bool:
        """Whether this copy holds the commit itself."""
        done = self._run(["cat-file", "-e", f"{commit}^{{commit}}"], self._limits(), fails=True)
        return done.status == 0

    def followed(self, candidate: str, base: str) -> Followed:
        """How `candidate` stands to `base`, as far as the history here says."""
        if candidate == base:
            return Followed(Relation.SAME)
        is_whole = not (self.folder / "shallow").exists()
        is_known = self.has(base)
        is_forward = is_known and self._is_ancestor(base, candidate)
        if not is_forward and not is_whole:
            return self._not_followed(candidate)
        words = ["--topo-order", f"--max-count={BETWEEN_MAX}", candidate, *([f"^{base}"] if is_known else [])]
        between = git_output.ids(self._read("rev-list", *words))
        if len(between) == BETWEEN_MAX and is_forward:
            return self._not_followed(candidate)
        if not is_whole and self._boundary() & set(between):
            return self._not_followed(candidate)  # a side branch is not known down to where it began
        return Followed(Relation.FORWARD if is_forward else Relation.NOT_FORWARD, between)

    def _not_followed(self, candidate: str) -> Followed:
        return Followed(Relation.UNKNOWN, history=git_output.number(self._read("rev-list", "--count", candidate)))

    def _is_ancestor(self, base: str, candidate: str) -> bool:
        done = self._run(["merge-base", "--is-ancestor", base, candidate], self._limits(), fails=True)
        if done.status not in (0, 1):
            raise MirrorDamaged(f"git merge-base failed: {done.said.strip()}", done.said, done.status)
        return done.status == 0

    def _boundary(self) -> set[str]:
        return set((self.folder / "shallow").read_text(encoding="ascii").split())

    def expanded(self, prefix: str) -> str | None:
        """The full id of the one commit here that begins with `prefix`; None where there is none, or several."""
        done = self._run(["rev-parse", "--quiet", "--verify", "--end-of-options", f"{prefix}^{{commit}}"],
                         self._limits(), fails=True)  # fmt: skip
        return git_output.one_id(done.output) if done.status == 0 else None

    def commits(self, commits: Sequence[str]) -> dict[str, git_commit.RawCommit]:
        """The commits' own words. Raises MirrorDamaged, and CommitError where one is none as git makes them."""
        found = {one: self._known[one] for one in commits if one in self._known}
        unknown = [one for one in commits if one not in found]
        for start in range(0, len(unknown), VERIFIED_AT_ONCE):
            some = unknown[start : start + VERIFIED_AT_ONCE]
            for one, data in self._objects(some, "commit", LIST_MAX_BYTES).items():
                found[one] = git_commit.read(data)
        self._known = found
        return found

    def signatures(self, setting: Setting, commits: Sequence[str]) -> Iterator[bytes]:
        """What git says of the commits' signatures, in pieces, as `git_output.verdicts` reads it."""
        words = ["log", "--no-walk=unsorted", "-z", f"--format={git_output.FIELDS}", "--stdin"]
        for start in range(0, len(commits), VERIFIED_AT_ONCE):
            some = commits[start : start + VERIFIED_AT_ONCE]
            yield self._run(words, self._limits(), setting, "".join(f"{one}\n" for one in some).encode()).output

    def verifies(self, setting: Setting, commits: Sequence[str]) -> bool:
        """Whether git itself says that all of the commits are well signed."""
        parts = [commits[at : at + VERIFIED_AT_ONCE] for at in range(0, len(commits), VERIFIED_AT_ONCE)]
        return all(
            self._run(["verify-commit", "--end-of-options", *part], self._limits(), setting, fails=True).status == 0
            for part in parts
        )

    # ------------------------------------------------------------ trees

    def entry(self, commit: str, path: str) -> Entry | None:
        """What `path` is in the commit's tree; None where there is nothing, or a link on the way."""
        listed = git_output.tree(self._read("ls-tree", "-z", "--full-tree", commit, "--", path))
        return next((entry for entry in listed if entry.path == path), None)

    def below(self, commit: str, folder: str) -> tuple[Entry, ...]:
        """All that is below `folder` ("" is the top), folders themselves left out. Raises GitTooMuch."""
        limits = replace(self._limits(), output_bytes=LIST_MAX_BYTES)
        words = ["ls-tree", "-z", "-r", "--full-tree", commit]
        return git_output.tree(self._run([*words, *(("--", f"{folder}/") if folder else ())], limits).output)

    def missing(self, objects: Sequence[str]) -> bool:
        """Whether any of the objects is not here."""
        given = "".join(f"{one}\n" for one in objects).encode()
        return b" missing\n" in self._run(["cat-file", "--batch-check"], self._limits(), given=given).output

    def sizes(self, blobs: Sequence[str]) -> dict[str, int | None]:
        """Bytes of each blob; None for what was too large to be fetched."""
        given = "".join(f"{blob}\n" for blob in blobs).encode()
        return git_output.sizes(self._run(["cat-file", "--batch-check"], self._limits(), given=given).output)

    def contents(self, blobs: Mapping[str, int]) -> dict[str, bytes]:
        """The bytes of blobs, whose sizes were asked for before."""
        return self._objects(tuple(blobs), "blob", sum(blobs.values()) + 200 * len(blobs) + 1)

    def _objects(self, wanted: Sequence[str], kind: str, room: int) -> dict[str, bytes]:
        given = "".join(f"{one}\n" for one in wanted).encode()
        limits = replace(self._limits(), output_bytes=room)
        try:
            return git_output.objects(self._run(["cat-file", "--batch"], limits, given=given).output, wanted, kind)
        except GitOutputError as error:
            raise MirrorDamaged(f"{self.folder}: {error}") from error

    # ------------------------------------------------------------ calls

    def _limits(self) -> Limits:
        return Limits(self._timeout_s)

    def _read(self, *words: str) -> bytes:
        """What a command printed that looks at this copy alone: that it fails means that the copy is damaged."""
        try:
            return self._run(words, self._limits()).output
        except (GitTooMuch, MirrorDamaged):
            raise
        except GitError as error:
            if error.said:
                raise MirrorDamaged(str(error), error.said, error.status) from error
            raise

    def _run(self, words: Sequence[str], limits: Limits, setting: Setting | None = None, given: bytes = b"", *,
             fails: bool = False) -> Done:  # fmt: skip
        return self._git.run([f"--git-dir={self.folder}", *words], limits, setting, given, fails=fails)


def _age_s(path: Path) -> float:
    try:
        return clock.now() - path.lstat().st_mtime
    except OSError:
        return 0.0


def _is_at_work(folder: Path) -> bool:
    """Whether some git works in `folder`, such as one that a killed daemon left; where that is not known: yes."""
    wanted = os.fsencode(folder)
    mine = os.getpid()
    try:
        processes = [entry.name for entry in os.scandir("/proc") if entry.name.isdecimal() and int(entry.name) != mine]
    except OSError:
        return True
    for process in processes:
        for name in ("cmdline", "environ"):
            with suppress(OSError):
                if b"GIT_DIR=" + wanted in (said := Path("/proc", process, name).read_bytes()) or (
                    b"--git-dir=" + wanted + b"\0" in said
                ):
                    return True
    return False
