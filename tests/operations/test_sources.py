"""A manifest from a repository: a look by a word, a refused commit let in, a promotion that leaves the manifest alone.

The repository here is a small one in memory; `tests/git` and `tests/e2e/test_gitops.py` have real ones.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from reconciler.core.errors import Problem, Refused
from reconciler.core.git_status import GitStatus, Synced
from reconciler.core.provenance import Commit
from reconciler.core.rollout import Phase
from reconciler.core.trust import Kind, Trouble
from reconciler.operations import Exit, Request
from reconciler.operations.desk import Operations, Place
from reconciler.operations.sources import Sources
from reconciler.ports import Loaded, Source
from tests.operations.desk_world import GOOD, Desk, lines

FIRST = Commit("1" * 40, "Ann <ann@example.com>", "the first", "2026-01-01T00:00:00Z", "ann", "https://git/x main")
SECOND = dataclasses.replace(FIRST, id="2" * 40, subject="the second")


class Repository:
    """Commits by id, one of them in force, maybe one refused; it reads like the file source behind it."""

    def __init__(self, files: Source) -> None:
        self.files = files
        self.force, self.refused = FIRST, ""
        self.looks = 0

    def load(self) -> Loaded:
        trouble = (Problem("manifest.yaml", 0, 0, self.refused),) if self.refused else ()
        return dataclasses.replace(self.files.load(), commit=self.force, trouble=trouble)

    def status(self) -> GitStatus:
        trouble = Trouble(Kind.UNTRUSTED, self.refused) if self.refused else None
        refused = SECOND if self.refused else None
        return GitStatus(
            "https://git/x", "refs/heads/main", "manifest.yaml", self.force, trouble=trouble, refused=refused
        )

    def sync(self) -> Synced:
        self.looks += 1
        return Synced(self.status(), False)

    def accept(self, prefix: str, reason: str, actor: str) -> Commit:
        self.force, self.refused = SECOND, ""
        return SECOND

    writes_back = False
    messages: ClassVar[list[str]] = []

    def write(self, change: Callable[[bytes], bytes], message: str) -> Commit:
        path = self.files.path  # type: ignore[attr-defined]
        path.write_bytes(change(path.read_bytes()))
        os.utime(path, (0, 0))
        self.messages.append(message)
        self.force = SECOND
        return SECOND

    def manifest_at(self, commit: str) -> Loaded:
        return dataclasses.replace(self.files.load(), commit=SECOND)


class GitDesk(Desk):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.repository = Repository(self.world.ports.source)
        self.world.ports = dataclasses.replace(self.world.ports, source=self.repository)
        self.loop.ports = self.loop._through = self.world.ports
        self.operations = Operations(
            Place(self.path, folder / "state", "2026-01-01T00:00:00+00:00", "https://git/x main manifest.yaml"),
            self.repository,
            lambda _acts: self.loop,
            self._replace,
            self._send,
            self.repository,
        )
        self.world.traffic.rate = 100.0
        assert self.ask("deploy")[0] is Exit.OK

    def keeps(self, image: str) -> None:
        """A commit keeps a canary of `image`."""
        self.wants(image, mode="canary")
        self.reaches(Phase.ANALYZING)
        self.goes_on(1200)
        assert (self.app.phase, self.app.weight_pct) == (Phase.ANALYZING, 50)


@pytest.fixture
def desk(tmp_path: Path) -> GitDesk:
    return GitDesk(tmp_path)


def test_the_commit_is_in_every_record_in_the_status_and_on_containers(desk: GitDesk) -> None:
    records = [record for record in desk.world.records if record["kind"] == "cycle"]
    assert records[-1]["commit"]["id"] == FIRST.id
    assert records[-1]["commit"]["signer"] == "ann"
    assert desk.status()["source"]["commit"]["subject"] == "the first"
    assert desk.ask("why")[1][-1]["value"]["commit"]["id"] == FIRST.id
    assert {box.labels["io.swiftdeploy.commit"] for box in desk.world.boxes()} == {FIRST.id}


def test_another_commit_of_the_same_manifest_is_told_and_touches_nothing(desk: GitDesk) -> None:
    desk.goes_on(30)
    before, known = set(desk.world.engine.boxes), len(desk.world.records)
    desk.repository.force = SECOND
    desk.goes_on(30)
    assert set(desk.world.engine.boxes) == before
    (told,) = [record for record in desk.world.records[known:] if record["kind"] == "cycle"]
    assert (told["commit"]["id"], told["actions"]) == (SECOND.id, [])


@pytest.mark.fault("GT13")
def test_a_commit_during_a_rollout_takes_its_place_and_both_are_recorded(desk: GitDesk) -> None:
    desk.wants("demo:2")
    desk.reaches(Phase.ANALYZING)
    desk.repository.force = SECOND
    desk.wants("demo:3")
    desk.reaches(Phase.STABLE)
    desk.reaches(Phase.ANALYZING)
    assert desk.images() == ["demo:1", "demo:3"]
    moves = [
        (record["commit"]["id"], decision["move"])
        for record in desk.world.records
        if record["kind"] == "cycle"
        for decision in record["decisions"]
        if decision["move"] in ("start", "supersede")
    ]
    assert moves[-3:] == [(FIRST.id, "start"), (SECOND.id, "supersede"), (SECOND.id, "start")]


def test_trouble_is_recorded_once_and_changes_nothing(desk: GitDesk) -> None:
    desk.repository.refused = "222222222222 is not signed"
    desk.goes_on(50)
    told = [record for record in desk.world.records if record.get("trouble")]
    assert len(told) == 1
    assert told[0]["trouble"] == ["manifest.yaml: 222222222222 is not signed"]
    assert desk.status()["source"]["trouble"]["kind"] == "git_untrusted"
    assert desk.status()["state"] == "converged"


def test_sync_looks_and_says_what_is_in_force_and_what_is_wrong(desk: GitDesk) -> None:
    looks = desk.repository.looks
    code, events = desk.ask("sync")
    assert (code, events[-1]["text"]) == (Exit.OK, "Still in force: 111111111111 the first")
    assert desk.repository.looks == looks + 1
    desk.repository.refused = "222222222222 is not signed"
    code, events = desk.ask("sync")
    assert code is Exit.ERROR
    assert events[-1]["text"] == "222222222222 is not signed\nIn force: 111111111111 the first"


@pytest.mark.parametrize(
    ("text", "denial", "code", "why"),
    [
        ("not: [a manifest", "", Exit.BAD_MANIFEST, "manifest.yaml:"),
        ("", "not on Fridays", Exit.DENIED, "DENIED: not on Fridays"),
    ],
)
def test_sync_names_the_commit_in_force_and_why_a_newer_one_is_not(
    desk: GitDesk, text: str, denial: str, code: Exit, why: str
) -> None:
    desk.repository.force = SECOND
    desk.wants("demo:2")
    if text:
        desk.path.write_text(text)
        os.utime(desk.path, (0, 0))
    if denial:
        desk.world.says("admission", allow=False, reason=denial)
    found, events = desk.ask("sync")
    assert found is code
    assert events[-1]["text"].startswith(f"222222222222 the second is not in force: {why}")
    assert events[-1]["text"].endswith("\nIn force: 111111111111 the first")


def test_sync_of_a_first_commit_that_is_denied_has_nothing_in_force(tmp_path: Path) -> None:
    desk = GitDesk.__new__(GitDesk)
    Desk.__init__(desk, tmp_path)
    desk.repository = Repository(desk.world.ports.source)
    desk.world.ports = dataclasses.replace(desk.world.ports, source=desk.repository)
    desk.loop.ports = desk.loop._through = desk.world.ports
    sources = Sources(desk.repository, lambda _acts: desk.loop)
    desk.world.says("admission", allow=False, reason="not on Fridays")
    for _ in range(8):
        desk.goes_on(1)
        *_, last = sources.sync(Request("sync", {}, "ann"))
    assert last["exit"] == int(Exit.DENIED)
    assert last["text"] == "111111111111 the first is not in force: DENIED: not on Fridays\nIn force: nothing yet"


def test_sync_says_what_else_keeps_a_commit_out(desk: GitDesk) -> None:
    desk.repository.force = SECOND
    desk.wants("demo:2")
    desk.world.engine.is_down = True
    code, events = desk.ask("sync")
    assert (code, "Start the Docker Engine" in events[-1]["text"]) == (Exit.ERROR, True)
    desk.world.engine.is_down = False
    desk.ask("suspend", reason="inventory")
    code, events = desk.ask("sync")
    assert code is Exit.OK
    assert "222222222222 the second is not in force: everything is suspended; `resume` ends that" in events[-1]["text"]


def test_a_daemon_that_stops_says_so_and_an_accepted_commit_is_accepted(desk: GitDesk) -> None:
    desk.loop.turns_itself = True
    desk.loop.stop()
    assert desk.ask("sync")[1][-1]["text"].startswith("The daemon stops; ")
    desk.repository.refused = "222222222222 is not signed"
    code, events = desk.ask("accept", commit="2222222", reason="by phone")
    assert (code, events[-1]["text"].startswith("Accepted 222222222222")) == (Exit.OK, True)


def test_a_refused_commit_is_let_in_with_a_reason_and_recorded(desk: GitDesk) -> None:
    desk.repository.refused = "222222222222 is not signed"
    with pytest.raises(Refused, match="needs a --reason"):
        desk.ask("accept", commit="2222222")
    code, events = desk.ask("accept", commit="2222222", reason="by phone")
    assert (code, events[-1]["text"]) == (Exit.OK, "Accepted 222222222222 by Ann <ann@example.com>: the second")
    said = [word for record in desk.world.records for word in record.get("words", ())]
    assert [(word["word"], word["reason"], word["detail"]) for word in said][-1] == (
        "accept",
        "by phone",
        f"{SECOND.id} the second",
    )


def test_a_promotion_is_approved_and_the_manifest_stays_its_authors(desk: GitDesk) -> None:
    desk.keeps("demo:2")
    text = desk.path.read_bytes()
    code, events = desk.ask("promote")
    assert code is Exit.OK, events[-1]
    assert "goes on saying mode canary of app: commit `mode: stable`" in lines(events)
    assert desk.path.read_bytes() == text
    desk.reaches(Phase.STABLE)
    desk.goes_on(600)
    assert desk.images() == ["demo:2"], "no canary of it is started again"
    (service,) = desk.status()["services"]
    assert service["reason"].startswith("it was promoted by an operator, though the manifest keeps a canary")
    desk.wants("demo:2")
    desk.goes_on(60)
    desk.wants("demo:2", mode="canary")
    desk.reaches(Phase.ANALYZING)


def test_where_it_is_set_up_a_promotion_is_a_commit(desk: GitDesk) -> None:
    desk.repository.writes_back = True
    desk.keeps("demo:2")
    code, events = desk.ask("promote", reason="all is well")
    assert code is Exit.OK, events[-1]
    assert "pushed 222222222222: app mode canary → stable" in lines(events)
    assert desk.repository.messages == ["app: mode canary -> stable\n\npromote by ann: all is well\n"]
    assert "mode: stable" in desk.path.read_text()
    assert desk.app.dismissed is None


def test_a_roll_back_dismisses_the_canary_and_leaves_the_manifest_alone(desk: GitDesk) -> None:
    desk.keeps("demo:2")
    text = desk.path.read_bytes()
    assert desk.ask("rollback")[0] is Exit.OK
    desk.goes_on(600)
    assert (desk.path.read_bytes(), desk.images()) == (text, ["demo:1"])


def test_only_a_commit_starts_or_ends_a_canary_of_the_stable_revision(desk: GitDesk) -> None:
    with pytest.raises(Refused, match="commit `mode: canary` of app there"):
        desk.ask("promote", mode="canary")
    desk.keeps("demo:1")
    with pytest.raises(Refused, match="commit `mode: stable`, or `rollback`"):
        desk.ask("promote")


def test_what_another_commit_would_change_is_shown_and_nothing_is_done(desk: GitDesk) -> None:
    desk.write(GOOD.replace("demo:1", "demo:2"))
    code, events = desk.ask("diff", commit="2222222")
    assert code is Exit.CHANGES
    assert any("demo:2" in text for text in events[-1]["value"]["files"].values())


def test_a_plain_file_has_no_commits(tmp_path: Path) -> None:
    plain = Desk(tmp_path)
    for verb, args in (("sync", {}), ("accept", {"reason": "x", "commit": "1234567"})):
        with pytest.raises(Refused, match="plain file"):
            plain.ask(verb, **args)
    with pytest.raises(Refused, match="plain file"):
        plain.ask("diff", commit="1234567")
    assert plain.status()["source"] is None
