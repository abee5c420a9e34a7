"""One look at a repository: is there something new, may it be trusted, and is it here as plain files?

What is accepted already stays until something better is. A copy of ours that is damaged is made anew beside it.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from reconciler.adapters import git_access
from reconciler.adapters.git_access import AccessError
from reconciler.adapters.git_command import Git, GitError, GitMissing, GitTimeout, GitTooMuch, Setting
from reconciler.adapters.git_mirror import Followed, Mirror, MirrorDamaged
from reconciler.adapters.git_signatures import Signers
from reconciler.adapters.git_trees import Trees
from reconciler.core.git_config import GitConfig, Signatures
from reconciler.core.provenance import Commit
from reconciler.core.trust import SHOWN, Candidate, Kind, Relation, Rules, Trouble, judge, signer
from reconciler.formats import git_failure, git_tree
from reconciler.formats.git_commit import CommitError
from reconciler.formats.git_output import GitOutputError
from reconciler.formats.git_url import Remote

EVERY_MAX = 1000
"""So many commits since the last accepted one are verified; more have to be accepted by hand."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A commit that was refused, why, and what by: when that changes, it is judged anew."""

    commit: Commit
    trouble: Trouble
    judged_by: object = None
    is_sure: bool = True
    """False where its history could not be followed far enough: another look may see more."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found: the id that is followed now, a commit to take over, or why there is none."""

    newest: str | None = None
    taken: Commit | None = None
    refusal: Refusal | None = None
    trouble: Trouble | None = None
    repaired: str = ""


class Follower:
    """Looks at one repository. `folder` is ours; only one thread may look at a time."""

    def __init__(self, config: GitConfig, remote: Remote, folder: Path, git: Git, signers: Signers) -> None:
        self.trees = Trees(folder / "trees")
        self._config = config
        self._remote = remote
        self._folder = folder
        self._git = git
        self._signers = signers
        self._rules = Rules(config.signatures, config.allow_rewind)

    def look(self, accepted: Commit | None, refusal: Refusal | None) -> Look:
        """What there is now. Never raises; `accepted` is the commit in force, `refusal` the last one not taken."""
        repaired = ""
        try:
            try:
                return self._look(self._mirror("mirror"), accepted, refusal)
            except GitError as error:
                if not (isinstance(error, MirrorDamaged) or git_failure.may_be_damage(error.said)):
                    raise
                repaired = git_failure.quoted(error.said) if error.said else str(error)
            return self._look_anew(accepted, refusal, repaired)
        except (GitError, GitOutputError, CommitError, OSError) as error:
            return Look(trouble=self._trouble(error))

    def pardon(self, commit: str, accepted: Commit | None) -> Look:
        """Take over a commit that was refused, whatever its history and signatures are. Never raises."""
        try:
            mirror = self._mirror("mirror")
            if not mirror.has(commit):
                mirror.fetch(self._access(), commit, None)
            return self._take(mirror, commit, None)
        except (GitError, GitOutputError, CommitError, OSError) as error:
            return Look(trouble=self._trouble(error))

    def fetch_tree(self, prefix: str) -> Commit | Trouble:
        """Afterwards the files of a commit are here, trusted or not, and nothing is accepted by that. Never raises."""
        scratch = self._folder / "mirror.scratch"
        try:
            mirror = self._mirror("mirror")
            commit = mirror.expanded(prefix) or prefix
            files = self._files(mirror, commit) if mirror.has(commit) else None
            if files is None:
                shutil.rmtree(scratch, ignore_errors=True)
                mirror = self._mirror(scratch.name)
                commit, _ = mirror.fetch(self._access(), commit, None)
                files = self._files(mirror, commit)
            told = mirror.commits([commit])[commit].told(commit, None, self.source)
            if files is None:
                raise MirrorDamaged(f"{self.source}: the files of {commit[:SHOWN]} were not sent")
            if isinstance(files, Trouble):
                return files
            self.trees.put(commit, files)
        except (GitError, GitOutputError, CommitError, OSError) as error:
            found = self._trouble(error)
            unknown = f"{self._remote.shown} gives no commit {prefix[:SHOWN]} by that name. Try the whole id"
            return Trouble(found.kind, unknown) if found.kind is Kind.REF_MISSING else found
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return told

    @property
    def source(self) -> str:
        """The repository and what is followed there, for people."""
        return f"{self._remote.shown} {_what(self._config)}"

    # ------------------------------------------------------------ looking

    def _mirror(self, name: str) -> Mirror:
        mirror = Mirror(
            self._git,
            self._folder / name,
            self._remote.url,
            timeout_s=self._config.timeout_s,
            max_bytes=self._config.max_bytes,
        )
        mirror.make_sure()
        return mirror

    def _access(self, *, only_looks: bool = False) -> Setting:
        return git_access.setting(self._config, self._remote, only_looks=only_looks)

    def _look_anew(self, accepted: Commit | None, refusal: Refusal | None, why: str) -> Look:
        """Look with a new copy in the place of one that is damaged; it takes its place when it has proven itself."""
        shutil.rmtree(self._folder / "mirror.new", ignore_errors=True)
        found = self._look(self._mirror("mirror.new"), accepted, refusal)
        old = self._folder / "mirror.old"
        shutil.rmtree(old, ignore_errors=True)
        with suppress(FileNotFoundError):
            (self._folder / "mirror").rename(old)
        (self._folder / "mirror.new").rename(self._folder / "mirror")
        shutil.rmtree(old, ignore_errors=True)
        structlog.get_logger().warning("git.repaired", source=self.source, reason=why)
        return Look(found.newest, found.taken, found.refusal, found.trouble, why)

    def _look(self, mirror: Mirror, accepted: Commit | None, refusal: Refusal | None) -> Look:
        newest = self._config.commit or mirror.remote_id(self._access(only_looks=True), self._config.ref)
        if newest is None:
            return Look(trouble=Trouble(Kind.REF_MISSING, self._missing()))
        if accepted is not None and newest == accepted.id and self.trees.has(newest):
            if mirror.is_worn():
                shutil.rmtree(mirror.folder)
            return Look(newest)
        judged_by = self._signers.identity()
        is_known = refusal is not None and refusal.is_sure and newest == refusal.commit.id
        if refusal is not None and is_known and judged_by == refusal.judged_by:
            return Look(newest, refusal=refusal, trouble=refusal.trouble)
        found, followed = mirror.fetch(self._access(), self._config.ref, accepted.id if accepted else None)
        return self._judged(mirror, found, followed, accepted)

    def _judged(self, mirror: Mirror, found: str, followed: Followed, accepted: Commit | None) -> Look:
        raw = mirror.commits([found])[found]
        told = raw.told(found, None, self.source)
        candidate = self._candidate(mirror, found, followed, accepted)
        trouble = candidate if isinstance(candidate, Trouble) else judge(candidate, self._rules)
        if trouble is not None:
            return self._refused(told, trouble, followed)
        assert isinstance(candidate, Candidate)
        return self._take(mirror, found, signer(candidate, self._rules))

    def _candidate(
        self, mirror: Mirror, found: str, followed: Followed, accepted: Commit | None
    ) -> Candidate | Trouble:
        asked: tuple[str, ...] = ()
        if self._rules.signatures is Signatures.HEAD:
            asked = (found,)
        elif self._rules.signatures is Signatures.EVERY:
            asked = (found, *(one for one in followed.between if one != found))
            if followed.relation is Relation.UNKNOWN:
                words = f"the history of {found[:SHOWN]} is too long to verify every commit since the last accepted one"
                return Trouble(
                    Kind.NOT_FORWARD,
                    f"{words}. Look at it, then {_accepting(found)}",
                )
        if len(asked) > EVERY_MAX:
            words = f"{len(asked)} commits have come since the last accepted one, and {EVERY_MAX} are verified at most"
            return Trouble(Kind.UNTRUSTED, f"{words}. Look at them, then {_accepting(found)}")
        is_new = followed.relation not in (Relation.FIRST, Relation.SAME)
        return Candidate(
            found,
            followed.relation,
            self._signers.signatures(mirror, asked) if asked else (),
            accepted.id if accepted else None,
            is_moved_tag=self._config.tag is not None and is_new,
            history=followed.history,
        )

    def _refused(self, told: Commit, trouble: Trouble, followed: Followed | None = None) -> Look:
        trouble = Trouble(trouble.kind, f"{self.source}: {trouble.message}")
        is_sure = followed is None or followed.relation is not Relation.UNKNOWN
        refusal = Refusal(told, trouble, self._signers.identity(), is_sure)
        return Look(told.id, refusal=refusal, trouble=trouble)

    def _take(self, mirror: Mirror, found: str, by: str | None) -> Look:
        told = mirror.commits([found])[found].told(found, by, self.source)
        files = self._files(mirror, found)
        if files is None:
            raise MirrorDamaged(f"{mirror.folder} does not hold the files of {found[:SHOWN]}")
        if isinstance(files, Trouble):
            return self._refused(told, Trouble(files.kind, f"{found[:SHOWN]}: {files.message}"))
        self.trees.put(found, files)
        mirror.accept(found)
        return Look(found, taken=told)

    # ------------------------------------------------------------ files

    def _files(self, mirror: Mirror, commit: str) -> dict[str, bytes] | Trouble | None:
        """The files to take over, by path; Trouble where there is no manifest; None where its tree is not here."""
        tree = mirror.commits([commit])[commit].tree
        if mirror.missing([tree]):
            return None
        path = self._config.path
        entry = mirror.entry(commit, path)
        if rejected := git_tree.rejected(entry, path):
            return rejected
        try:
            entries = mirror.below(commit, path.rpartition("/")[0])
        except GitTooMuch:
            words = f"there are too many files beside {path}. Move the manifest into a folder of its own"
            return Trouble(Kind.TOO_BIG, words)
        worth = git_tree.worth(entries, path)
        sizes = mirror.sizes(tuple(dict.fromkeys(one.id for one in worth)))
        chosen = git_tree.chosen(worth, sizes, path, len(entries))
        if isinstance(chosen, Trouble):
            return chosen
        wanted = {blob: sizes[blob] or 0 for blob in chosen.files.values()}
        data = mirror.contents(wanted)
        return {name: data[blob] for name, blob in chosen.files.items()}

    # ------------------------------------------------------------ words

    def _missing(self) -> str:
        what = _what(self._config)
        return (
            f"there is no {what} in {self._remote.shown} (an empty repository has none). Push it, or follow another one"
        )

    def _trouble(self, error: Exception) -> Trouble:
        doing = f"reading {self.source}"
        match error:
            case AccessError() | GitMissing():
                return Trouble(Kind.UNREACHABLE, f"{doing}: {error}")
            case GitTimeout():
                return Trouble(Kind.UNREACHABLE, f"{doing}: {error}. It is tried again (`timeout_s` may be raised)")
            case GitTooMuch():
                return Trouble(Kind.TOO_BIG, f"{doing}: {error} (`max_bytes` may be raised)")
            case GitError() if error.said:
                return git_failure.trouble(error.said, doing)
            case CommitError():
                return Trouble(Kind.UNTRUSTED, f"{doing}: a commit is none as git makes them: {error}")
            case GitOutputError():
                return Trouble(Kind.UNTRUSTED, f"{doing}: {error}")
            case OSError():
                return Trouble(Kind.UNREACHABLE, f"{doing}: {self._folder}: {error.strerror or error}")
            case _:
                return Trouble(Kind.UNREACHABLE, f"{doing}: {error}")


def _what(config: GitConfig) -> str:
    """What is followed, in words."""
    if config.commit is not None:
        return f"commit {config.commit[:SHOWN]}"
    return f"tag {config.tag}" if config.tag is not None else f"branch {config.branch or 'main'}"


def _accepting(commit: str) -> str:
    return f'`reconcilerctl git accept {commit[:SHOWN]} --reason "why"`'
