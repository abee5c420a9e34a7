"""What is said of an operator's word is what came of it, also where something else happened meanwhile."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.core.errors import Refused
from reconciler.core.record import Trigger, Verdict
from reconciler.core.rollout import Phase, ServiceRollout
from reconciler.core.words import Deploy, Rollback, Word, hear
from reconciler.loop import Wake
from reconciler.operations import Exit, Request
from reconciler.operations.outcome import goes_on, rolled_back
from reconciler.operations.rollouts import Rollouts
from tests.builders import group, service, state
from tests.cycle import cycle_world
from tests.operations.desk_world import GOOD, Desk, lines
from tests.operations.test_sources import GitDesk

OLD, NEW = group(), group(service(image="demo:2"))


def rollouts(desk: Desk) -> Rollouts:
    """Who answers what is said about rollouts at this desk."""
    found: Rollouts = desk.operations._verbs["promote"].__self__  # type: ignore[attr-defined]
    return found


# ---------------------------------------------------------------- whose policies a promotion is judged by


class _TwoJudges(cycle_world._Policy):
    """The policies in force deny what those of any other manifest allow. `is_deaf`: only the others answer."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk.world)
        assert desk.loop.latest is not None
        assert desk.loop.latest.observed is not None
        self.in_force = set(desk.loop.latest.observed.policies)
        self.is_deaf = False

    def ready(self, revision: str) -> tuple[bool, str]:
        if self.is_deaf and revision in self.in_force:
            return False, "silent"
        return super().ready(revision)

    def evaluate(self, domain: str, question: Any, revision: str) -> Verdict:
        if domain == "infrastructure" or revision not in self.in_force:
            return Verdict(domain, True, "", action="promote")
        return Verdict(domain, False, "Error rate exceeds 1% threshold", action="hold")


@pytest.mark.fault("J7")
def test_a_promotion_is_never_judged_by_the_policies_of_a_manifest_that_was_not_let_in(tried: Desk) -> None:
    judges = _TwoJudges(tried)
    tried.loop.ports = tried.loop._through = dataclasses.replace(tried.loop.ports, policy=judges)
    tried.write(tried.path.read_text(encoding="utf-8") + "policy: {canary: {max_error_rate: 0.9}}\n")
    tried.goes_on(20)
    assert tried.loop.latest is not None
    assert tried.loop.latest.observed is not None
    answering = tried.loop.latest.observed.policies
    assert sum(health.ready for health in answering.values()) == 2, "both manifests' policies answer"
    assert tried.ask("promote", mode="stable")[0] is Exit.DENIED
    judges.is_deaf = True
    before = tried.path.read_bytes()
    code, events = tried.ask("promote", mode="stable")
    assert (code, events[-1]["text"]) == (
        Exit.POLICY_FAILED,
        "Policy engine failed: the policy engine does not answer",
    )
    assert (tried.path.read_bytes(), tried.app.phase) == (before, Phase.ANALYZING)


# ---------------------------------------------------------------- a manifest that somebody saved meanwhile


def saves_while_policy_is_asked(desk: Desk, save: Callable[[], None]) -> None:
    """`save` runs once, after policy allowed the promotion and before anything is written."""
    gate = rollouts(desk)._gate

    def then_saved(*args: Any) -> Any:
        verdict = yield from gate(*args)
        save()
        return verdict

    rollouts(desk)._gate = then_saved  # type: ignore[assignment,method-assign]


def test_promote_writes_no_mode_for_a_revision_that_policy_was_not_asked_about(tried: Desk) -> None:
    tried.world.says("canary", allow=True)
    saves_while_policy_is_asked(tried, lambda: tried.wants("demo:3", "canary"))
    meant = tried.app.candidate.revision[:12]  # type: ignore[union-attr]
    with pytest.raises(Refused, match=f"asks for another app than revision {meant} by now, so its mode was left"):
        tried.ask("promote", mode="stable")
    assert "mode: canary" in tried.path.read_text(encoding="utf-8")
    tried.goes_on(400)
    assert tried.images() == ["demo:1", "demo:3"], "the one that nobody promoted is still a canary"


def test_what_else_somebody_saved_meanwhile_stays_and_is_no_hindrance(tried: Desk) -> None:
    tried.world.says("canary", allow=True)
    saves_while_policy_is_asked(
        tried, lambda: tried.write(tried.path.read_text(encoding="utf-8") + "# not before noon\n")
    )
    assert tried.ask("promote", mode="stable")[0] is Exit.OK
    text = tried.path.read_text(encoding="utf-8")
    assert ("mode: stable" in text, "# not before noon" in text) == (True, True)


def test_a_manifest_that_is_saved_while_it_is_written_is_not_overwritten(tried: Desk) -> None:
    tried.world.says("canary", allow=True)
    changed = rollouts(tried)._modes.changed

    def saved_meanwhile(*args: Any) -> bytes:
        after = changed(*args)
        tried.wants("demo:3", "canary")
        return after

    rollouts(tried)._modes.changed = saved_meanwhile  # type: ignore[assignment,method-assign]
    with pytest.raises(Refused, match="was saved by somebody else at this moment"):
        tried.ask("promote", mode="stable")
    assert "demo:3" in tried.path.read_text(encoding="utf-8")


def test_a_roll_back_leaves_the_mode_of_another_revision_alone_and_is_done_all_the_same(tried: Desk) -> None:
    says(tried, "rollback", lambda: tried.wants("demo:3", "canary"))
    code, events = tried.ask("rollback", reason="customers complain")
    assert (code, tried.images()) == (Exit.OK, ["demo:1"])
    assert "asks for another app than revision" in lines(events)
    assert "mode: canary" in tried.path.read_text(encoding="utf-8")


def test_a_roll_back_is_done_though_the_manifest_cannot_be_written(tried: Desk) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    rollouts(tried)._modes._replace_file = refuse
    code, events = tried.ask("rollback")
    assert (code, tried.images()) == (Exit.OK, ["demo:1"])
    assert "cannot be written: Operation not permitted" in lines(events)
    tried.goes_on(600)
    assert tried.images() == ["demo:1"], "what was rolled back is not tried again"


def test_a_roll_back_is_heard_before_the_manifest_lets_the_canary_be_promoted(tried: Desk) -> None:
    tried.world.says("canary", allow=True)
    tried.goes_on(600)
    seen = []
    for event in tried.operations.run(Request("rollback", {"reason": "customers complain"}, "bob")):
        if event["event"] == "line" and "mode canary → stable" in str(event["text"]):
            tried.loop.turn([Wake(Trigger("manifest", "manifest.yaml"))])  # its save woke the loop
            seen.append(tried.app.phase)
    assert seen == [Phase.ROLLING_BACK]
    assert tried.images() == ["demo:1"]


# ---------------------------------------------------------------- too late


def says(desk: Desk, word: str, first: Callable[[], None]) -> None:
    """`first` happens between the moment at which `word` is said and the cycle that hears it."""
    by_hand = desk.loop._turned_by_hand

    def turned(trigger: Trigger, said: Word) -> Any:
        if type(said).__name__.lower() == word:
            first()
        yield from by_hand(trigger, said)

    desk.loop._turned_by_hand = turned  # type: ignore[assignment,method-assign]


def comes_to_rest(desk: Desk) -> None:
    while desk.app.phase is not Phase.STABLE:
        desk.world.clock.seconds += 1
        desk.loop.turn([Wake(Trigger("interval"))])


def test_a_roll_back_after_the_watch_is_too_late_and_says_so(deployed: Desk) -> None:
    deployed.world.traffic.rate = 20.0
    deployed.wants("demo:2")
    deployed.reaches(Phase.WATCHING)
    new = deployed.app.stable.revision[:12]  # type: ignore[union-attr]
    says(deployed, "rollback", lambda: comes_to_rest(deployed))
    code, events = deployed.ask("rollback", reason="customers complain")
    assert (code, deployed.images()) == (Exit.ERROR, ["demo:2"])
    assert events[-1]["text"] == (
        f"Too late: app had become stable with {new}, and nothing older is kept. "
        "To go back, change the service in the manifest."
    )


def test_a_roll_back_of_a_first_deployment_that_became_stable_is_too_late(desk: Desk) -> None:
    desk.world.sick = {"demo:1"}
    desk.loop.wake(Trigger("operator", "deploy"), Deploy())
    desk.reaches(Phase.STARTING)
    desk.world.sick = set()
    says(desk, "rollback", lambda: comes_to_rest(desk))
    code, events = desk.ask("rollback")
    assert (code, desk.images(), "Too late: app had become stable" in events[-1]["text"]) == (
        Exit.ERROR,
        ["demo:1"],
        True,
    )


def test_a_roll_back_that_is_too_late_changes_no_manifest(deployed: Desk) -> None:
    deployed.world.traffic.rate = 20.0
    deployed.wants("demo:2")
    deployed.reaches(Phase.WATCHING)
    deployed.wants("demo:2", "canary")
    says(deployed, "rollback", lambda: comes_to_rest(deployed))
    code, events = deployed.ask("rollback")
    assert (code, events[-1]["text"].startswith("Too late: ")) == (Exit.ERROR, True)
    assert "mode: canary" in deployed.path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("before", "is_back"),
    [
        (state(Phase.WATCHING, stable=NEW, kept=OLD), True),
        (state(Phase.WATCHING, stable=NEW), False),
        (state(Phase.SETTLING, stable=NEW, kept=OLD), True),
        (state(Phase.RENEWING, stable=OLD, candidate=NEW), True),
        (state(Phase.UPDATING, stable=OLD, candidate=NEW), True),
        (state(Phase.STARTING, stable=None, candidate=NEW), False),
        (state(Phase.TURNING, stable=OLD), True),
    ],
)
def test_what_a_roll_back_aims_at(before: ServiceRollout, is_back: bool) -> None:
    assert rolled_back(before, state(stable=OLD))[0] is (Exit.OK if is_back else Exit.ERROR)
    assert rolled_back(before, state(stable=NEW))[0] is Exit.ERROR
    assert rolled_back(before, ServiceRollout("app"))[0] is Exit.OK


def test_a_canary_of_the_stable_revision_that_went_meanwhile_is_rolled_back(deployed: Desk) -> None:
    deployed.world.traffic.rate = 20.0
    assert deployed.ask("promote", mode="canary")[0] is Exit.OK

    def gone() -> None:
        deployed.wants("demo:1")
        deployed.world.clock.seconds += 1
        comes_to_rest(deployed)

    says(deployed, "rollback", gone)
    code, events = deployed.ask("rollback")
    assert (code, "Rolled back: app runs" in events[-1]["text"]) == (Exit.OK, True)


# ---------------------------------------------------------------- said while the engine is away


@pytest.mark.fault("J6")
@pytest.mark.parametrize(
    ("verb", "says_first"), [("pause", "app is paused: analyzing, 5 %."), ("suspend", "Suspended")]
)
def test_a_word_said_while_the_engine_is_away_is_no_error(tried: Desk, verb: str, says_first: str) -> None:
    tried.world.engine.is_down = True
    code, events = tried.ask(verb, reason="lunch")
    text = events[-1]["text"]
    assert (code, text.startswith(says_first), "NOT SAVED" in text) == (Exit.OK, True, False)
    assert "That is saved, and what follows from it is done once this is over: " in text
    stored = tried.world.store.load()
    assert stored.of("app").paused if verb == "pause" else stored.suspended


def test_the_end_of_a_suspension_is_none_either(tried: Desk) -> None:
    tried.ask("suspend", reason="lunch")
    tried.world.engine.is_down = True
    code, events = tried.ask("resume")
    assert (code, events[-1]["text"].startswith("The suspension is over. That is saved, ")) == (Exit.OK, True)
    assert tried.world.store.load().suspended is None


@pytest.mark.fault("J6")
@pytest.mark.parametrize("verb", ["pause", "suspend"])
def test_a_word_that_the_disk_does_not_take_is_not_saved(tried: Desk, verb: str) -> None:
    tried.world.store.is_full = True
    tried.world.engine.is_down = True
    code, events = tried.ask(verb, reason="lunch")
    assert code is Exit.ERROR
    assert "NOT SAVED: rollout.json: no space left on the device. It is forgotten now" in events[-1]["text"]
    tried.world.store.is_full = False


def test_a_teardown_while_the_engine_is_away_says_that_it_will_be_done(tried: Desk) -> None:
    tried.world.engine.is_down = True
    code, events = tried.ask("teardown")
    assert code is Exit.ERROR, "it is not done"
    assert events[-1]["text"].startswith("Not torn down yet: ")
    assert "The word is saved: the stack is taken down once that is over" in events[-1]["text"]
    tried.world.engine.is_down = False
    tried.goes_on(60)
    assert tried.images() == []


def test_a_deployment_while_the_engine_is_away_says_that_it_goes_on(tried: Desk) -> None:
    tried.wants("demo:3")
    tried.world.engine.is_down = True
    code, events = tried.ask("deploy")
    assert code is Exit.ERROR, "it is not done"
    assert events[-1]["text"].endswith(
        "\nNothing is lost: it goes on once that is over, with the next command or a daemon."
    )
    tried.loop.turns_itself = True
    assert goes_on(tried.loop, tried.loop.latest).startswith(
        "Nothing is lost: the daemon goes on as soon as that is over"
    )
    tried.world.engine.is_down = False
    tried.loop.turns_itself = False
    tried.reaches(Phase.STABLE)
    tried.reaches(Phase.ANALYZING)
    assert "demo:3" in tried.images()


@pytest.mark.parametrize("mode", ["stable", "canary"])
def test_a_canary_that_serves_alone_is_promoted_and_the_manifest_that_moved_on_is_left_alone(
    tried: Desk, mode: str
) -> None:
    tried.goes_on(70)
    tried.world.sick = {"demo:1"}
    tried.goes_on(5)
    tried.wants("demo:3", mode)
    tried.goes_on(30)
    before = tried.path.read_text(encoding="utf-8")
    assert "but nobody else serves yet" in tried.app.reason
    code, events = tried.ask("promote", force=True, reason="stable is dead")
    assert (code, events[-1]["text"].startswith("app is stable now")) == (Exit.OK, True), events[-1]
    assert tried.path.read_text(encoding="utf-8") == before
    tried.goes_on(60)
    assert ("demo:3" in tried.images(), "demo:1" in tried.images()) == (True, False)


def test_a_promotion_is_refused_while_a_roll_back_waits_for_the_engine(tried: Desk) -> None:
    tried.loop.memory = dataclasses.replace(
        tried.loop.memory, rollout=hear(tried.loop.memory.rollout, Rollback("app", "ann"))
    )
    with pytest.raises(Refused, match="app is about to be rolled back, as ann asked"):
        tried.ask("promote")


def test_a_teardown_that_the_disk_does_not_take_says_so(tried: Desk) -> None:
    tried.world.engine.is_down = tried.world.store.is_full = True
    code, events = tried.ask("teardown")
    assert (code, events[-1]["text"].startswith("Not torn down, and NOT SAVED: rollout.json: ")) == (Exit.ERROR, True)


def test_a_teardown_before_anything_was_deployed_says_that_nothing_will_be(desk: Desk) -> None:
    desk.write("services: [half\n")
    desk.goes_on(30)
    code, events = desk.ask("teardown")
    assert (code, events[-1]["text"]) == (
        Exit.OK,
        "Nothing was ever deployed from here, so there is nothing to tear down. Nothing will be, until `deploy`.",
    )
    desk.write(GOOD)
    desk.goes_on(60)
    assert desk.images() == []


# ---------------------------------------------------------------- what serves


def test_a_lost_revision_is_never_shown_as_the_one_that_the_manifest_asks_for(deployed: Desk) -> None:
    deployed.wants("demo:9")
    deployed.goes_on(30)
    world = deployed.world
    world.store.revisions.clear()
    world.restart()
    deployed.loop.memory = world.memory
    deployed.goes_on(30)
    (service,) = deployed.status()["services"]
    assert (deployed.images(), service["image"], service["version"]) == (["demo:1"], "?", "?")


# ---------------------------------------------------------------- a manifest in git that is written back to


def test_a_commit_that_came_meanwhile_gets_no_mode_that_policy_was_not_asked_about(tmp_path: Path) -> None:
    git = GitDesk(tmp_path)
    git.repository.writes_back = True
    git.keeps("demo:2")
    saves_while_policy_is_asked(git, lambda: git.wants("demo:3", "canary"))
    pushed = len(git.repository.messages)
    with pytest.raises(Refused, match="asks for another app than revision"):
        git.ask("promote")
    assert (len(git.repository.messages), "mode: canary" in git.path.read_text(encoding="utf-8")) == (pushed, True)


def test_a_roll_back_is_heard_before_it_is_pushed(tmp_path: Path) -> None:
    git = GitDesk(tmp_path)
    git.repository.writes_back = True
    git.keeps("demo:2")
    phases: list[Phase] = []
    push = git.repository.write

    def pushed(*args: Any) -> Any:
        phases.append(git.app.phase)
        return push(*args)

    git.repository.write = pushed  # type: ignore[method-assign]
    assert git.ask("rollback")[0] is Exit.OK
    assert (phases, "mode: stable" in git.path.read_text(encoding="utf-8")) == ([Phase.ROLLING_BACK], True)
