"""What an operator says to a source that is a git repository: look now, take this commit all the same."""

from __future__ import annotations

from collections.abc import Callable, Generator

from reconciler.core.desired import Json
from reconciler.core.errors import Refused
from reconciler.core.git_status import GitStatus, Synced
from reconciler.core.record import Cycle, Trigger, Verdict
from reconciler.core.words import Noted
from reconciler.formats.cycle_record import commit_json
from reconciler.loop import Loop
from reconciler.operations import TICK, Event, Events, Exit, Misused, Request, end, is_said, line
from reconciler.ports import Repository

NO_REPOSITORY = (
    "the manifest is a plain file, which is watched. A repository is named in the daemon's file, docs/git.md"
)


class Sources:
    """Answers `sync` and `accept`."""

    def __init__(self, repository: Repository | None, open_loop: Callable[[bool], Loop]) -> None:
        self._repository = repository
        self._open_loop = open_loop

    def sync(self, request: Request) -> Events:
        """Look at the repository now, then reconcile once; tells what is in force then, and why no newer commit is."""
        repository = self._named()
        yield line("looking at the repository")
        synced = repository.sync()
        cycle = yield from self._turn(request, Noted("sync", "", request.actor))
        yield _told(synced, cycle, self._open_loop(True).memory.last_good is not None)

    def accept(self, request: Request) -> Events:
        """The commit that is refused now is let in, by name and with a reason."""
        repository = self._named()
        commit, reason = request.args.get("commit"), request.args.get("reason")
        if not isinstance(reason, str) or not is_said(reason):
            raise Misused("git accept needs a --reason: it lets in what was refused")
        if not isinstance(commit, str) or not commit:
            raise Misused("which commit? `status` shows the one that is refused")
        taken = repository.accept(commit, reason, request.actor)
        yield from self._turn(request, Noted("accept", "", request.actor, reason, f"{taken.id} {taken.subject}"))
        yield end(Exit.OK, f"Accepted {taken.short} by {taken.author}: {taken.subject}")

    def _named(self) -> Repository:
        if self._repository is None:
            raise Refused(NO_REPOSITORY)
        return self._repository

    def _turn(self, request: Request, word: Noted) -> Generator[Event, None, Cycle | None]:
        """One cycle that has heard `word`; None where the daemon ends before there is one."""
        loop = self._open_loop(True)
        for cycle in loop.follow(Trigger("operator", word.word, request.actor, word.reason), word):
            if cycle is not None:
                return cycle
            yield TICK
        return None


def _told(synced: Synced, cycle: Cycle | None, is_any_in_force: bool) -> Event:
    """What is in force after a look at the repository, and why what is followed is not."""
    status, newest = synced.status, synced.status.accepted
    if cycle is None:
        return end(Exit.ERROR, "The daemon stops; what was fetched is looked at when it runs again.")
    denial = next((v for v in cycle.verdicts if v.domain == "admission" and not v.allow), None)
    is_in = cycle.is_let_in and denial is None
    force = (cycle.commit or (newest if is_in else None)) if is_any_in_force else None
    now = (
        f"{force.short} {force.subject}"
        if force
        else ("what was deployed before" if is_any_in_force else "nothing yet")
    )
    if status.trouble is not None:
        return end(Exit.ERROR, f"{status.trouble.message}\nIn force: {now}")
    if newest is None or is_in:
        return end(Exit.OK, f"{'Now' if synced.is_changed else 'Still'} in force: {now}")
    code, why = _left_out(cycle, denial)
    return end(code, f"{newest.short} {newest.subject} is not in force: {why}\nIn force: {now}")


def _left_out(cycle: Cycle, denial: Verdict | None) -> tuple[Exit, str]:
    """Why the commit that is followed is not the one in force."""
    if cycle.problems:
        return Exit.BAD_MANIFEST, "\n".join(str(problem) for problem in cycle.problems)
    if denial is not None and denial.known:
        return Exit.DENIED, f"DENIED: {denial.reason}"
    if denial is not None:
        return Exit.POLICY_FAILED, f"policy engine failed: {denial.reason}"
    if cycle.errors:
        return Exit.ERROR, cycle.errors[0]
    if cycle.rollout.suspended is not None:
        return Exit.OK, "everything is suspended; `resume` ends that"
    return Exit.OK, "policy has not judged it yet; `status` tells how it goes on"


def source_value(git: GitStatus | None, cycle: Cycle | None) -> Json:
    """Where the manifest comes from, and how far that is followed; `commit` is the one in force.

    Null where it is a plain file.
    """
    if git is None:
        return None
    return {
        "url": git.url,
        "ref": git.ref,
        "path": git.path,
        "commit": commit_json(cycle.commit if cycle and cycle.commit else git.accepted),
        "accepted_at": git.accepted_at,
        "newest": git.newest,
        "looked_at": git.looked_at,
        "next_look_s": git.next_look_s,
        "failures": git.failures,
        "trouble": {"kind": git.trouble.kind.value, "message": git.trouble.message, "since": git.trouble_since}
        if git.trouble
        else None,
        "refused": commit_json(git.refused),
        "repaired": git.repaired,
    }
