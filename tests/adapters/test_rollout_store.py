"""What is stored comes back as it was; what is damaged or newer than us counts as absent."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.adapters import rollout_store
from reconciler.adapters.rollout_store import RolloutFiles
from reconciler.adapters.state_dir import StateDir
from reconciler.core.containers import KeptRevision
from reconciler.core.desired import DesiredState, HealthCheck, Mode, Mount, Resources, Step
from reconciler.core.errors import StateError
from reconciler.core.evidence import Evidence, begin, limits_of, measure, summarise
from reconciler.core.evidence.readings import Counted, Reading, Unread
from reconciler.core.provenance import Commit
from reconciler.core.rollout import (
    Asked,
    Course,
    Group,
    Member,
    Paused,
    Phase,
    Release,
    Rollout,
    ServiceRollout,
)
from reconciler.formats import manifest
from tests.builders import IMAGES, STEPS, canary, desired, group, kept, release, rollout, service, state

UNHURRIED = settings(deadline=None, max_examples=50)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StateDir]:
    with StateDir(tmp_path / "state") as opened:
        yield opened


def there_and_back(value: object) -> object:
    """As the disk would give it back."""
    text = json.dumps(rollout_store._plain(value), allow_nan=False)
    return rollout_store._CONVERTER.structure(json.loads(text), type(value))


MOMENTS = st.floats(allow_nan=False, allow_infinity=False)
STATES = st.builds(
    ServiceRollout,
    stable=st.none() | st.builds(Group),
    candidate=st.none() | st.builds(Group),
    course=st.builds(Course, steps=st.lists(st.builds(Step, duration_s=MOMENTS), max_size=3).map(tuple)),
    since=MOMENTS,
    seen=MOMENTS,
    step_s=MOMENTS,
    waited_s=MOMENTS,
    unknown_since=st.none() | MOMENTS,
    sick_since=st.none() | MOMENTS,
    paused=st.none() | st.builds(Paused, until=st.none() | MOMENTS),
    asked=st.none() | st.builds(Asked),
    dismissed=st.none() | st.builds(Release),
    blue=st.lists(st.builds(Member), max_size=2).map(tuple),
)


@UNHURRIED
@given(st.builds(Rollout, services=st.dictionaries(st.text(), STATES, max_size=3)))
def test_every_rollout_comes_back_as_it_was(made: Rollout) -> None:
    assert there_and_back(made) == made


@UNHURRIED
@given(STATES)
def test_every_state_of_a_service_comes_back_as_it_was(made: ServiceRollout) -> None:
    assert there_and_back(made) == made


def test_a_state_with_everything_in_it_comes_back_as_it_was() -> None:
    full = state(
        Phase.RENEWING,
        candidate=canary(service(image="demo:2")),
        fresh=group(service(image="demo:2")),
        kept=group(),
        course=Course(steps=STEPS, is_adopted=True),
        paused=Paused("ann", "lunch", 9.5),
        asked=Asked("retry", "ann", "again"),
        dismissed=Release(release().revision, Mode.CANARY),
        quarantined=("a", "b"),
        is_suspended_by_verdict=True,
    )
    assert there_and_back(full) == full


# ---------------------------------------------------------------- evidence

LIMITS = limits_of({})


def gathered(seconds: int = 90) -> Evidence:
    """Evidence of a minute and a half with errors, read from two containers and a proxy that counts too."""
    evidence = begin("canary/x/1/y", 1000.0)
    for second in range(0, seconds, 5):
        evidence = observed_at(evidence, second)
    return evidence


def observed_at(evidence: Evidence, second: int) -> Evidence:
    now = 1000.0 + second

    def counted(rate: int, failed: int) -> Counted:
        total = rate * second
        buckets = ((0.1, total // 2), (0.5, total - failed), (float("inf"), total))
        reading = Reading(now, 1000.0, {"/": total, "/a": second}, {"/": failed}, buckets, float(second), "", "none")
        return Counted(reading, reading if second % 10 else Unread("timed out"))

    return measure(
        evidence,
        {"c": counted(3, second // 10)},
        {"s": counted(60, second // 20)},
        LIMITS,
        provider="auto",
        now=now,
        horizon_s=600.0,
        share=0.05,
    )


def test_evidence_comes_back_as_it_was_and_goes_on_as_if_nothing_had_happened(folder: StateDir) -> None:
    made = gathered()
    assert made.measured_s > 0
    RolloutFiles(folder).save_evidence({"app": made})
    (back,) = RolloutFiles(folder).evidence().values()
    assert back == made
    assert observed_at(back, 95) == observed_at(made, 95)
    assert summarise(back, LIMITS, 1090.0) == summarise(made, LIMITS, 1090.0)


@pytest.mark.parametrize("seconds", [0, 1, 30])
def test_evidence_of_next_to_nothing_comes_back_too(folder: StateDir, seconds: int) -> None:
    made = {"app": gathered(seconds), "web": begin("stable/z", 5.0)}
    RolloutFiles(folder).save_evidence(made)
    assert dict(RolloutFiles(folder).evidence()) == made


def test_no_evidence_is_none(folder: StateDir) -> None:
    assert RolloutFiles(folder).evidence() == {}


def test_evidence_that_cannot_be_read_does_not_take_the_rollout_along(folder: StateDir) -> None:
    store = RolloutFiles(folder)
    store.save(rollout())
    store.save_evidence({"app": gathered()})
    path = folder.path / rollout_store.EVIDENCE
    path.write_bytes(path.read_bytes()[:-40])
    again = RolloutFiles(folder)
    assert (again.evidence(), again.load()) == ({}, rollout())


FULL = service(
    mode=Mode.CANARY,
    command=("serve", "--port=3000"),
    entrypoint=(),
    environment=(("A", "1"), ("B", "ü\n")),
    mounts=(Mount("volume", "data", "/data"), Mount("bind", "/etc/x", "/x", read_only=True)),
    healthcheck=HealthCheck(None, ("CMD", "true"), start_period_s=1.5),
    resources=Resources(0.5, 1024, 10),
    cap_add=("NET_BIND_SERVICE",),
    route=None,
    rollout=dataclasses.replace(service().rollout, steps=(Step(1, 2.5),), probe_path="/"),
    tester_secret="file:secret",
)


@pytest.mark.parametrize(
    "made",
    [
        desired(),
        desired(FULL, limits={"canary": {"max_error_rate": 0.01, "list": [1, {"a": None}]}, "other": {}}),
        desired(service(healthcheck=None, port=None), user_policies=(("a.rego", "package a\n"),)),
    ],
)
def test_every_manifest_comes_back_as_it_was(made: DesiredState) -> None:
    assert there_and_back(made) == made


def test_the_manifest_of_this_repository_comes_back_as_it_was(folder: StateDir) -> None:
    made = manifest.read((ROOT / "manifest.yaml").read_bytes(), file="manifest.yaml", folder="demo").desired
    assert made is not None
    RolloutFiles(folder).admit(made)
    assert RolloutFiles(folder).last_good() == made


def test_a_kept_revision_comes_back_as_it_was(folder: StateDir) -> None:
    made = KeptRevision("r" * 64, FULL, IMAGES["demo:1"], "web")
    RolloutFiles(folder).keep(made)
    assert RolloutFiles(folder).kept() == (made,)


def test_the_commit_in_force_comes_back_with_its_own_manifest_only(folder: StateDir) -> None:
    store, commit = RolloutFiles(folder), Commit("c" * 40, "ann", "Two replicas", "2026-11-23T00:00:00Z", "ann", "git")
    store.trace(desired(), None)
    assert not (folder.path / rollout_store.COMMIT).exists(), "a manifest from no commit leaves nothing behind"
    store.trace(desired(), commit)
    again = RolloutFiles(folder)
    assert again.commit_of(desired()) == commit
    assert again.commit_of(None) is None
    assert again.commit_of(dataclasses.replace(desired(), revision="d" * 64)) is None
    again.trace(desired(), None)
    assert RolloutFiles(folder).commit_of(desired()) is None
    (folder.path / rollout_store.COMMIT).unlink()
    (folder.path / rollout_store.COMMIT).mkdir()
    assert RolloutFiles(folder).commit_of(desired()) is None, "what nobody depends on keeps nobody from starting"


def test_an_empty_state_directory_is_an_empty_rollout(folder: StateDir) -> None:
    store = RolloutFiles(folder)
    assert (store.load(), store.kept(), store.last_good()) == (Rollout(), (), None)


def test_what_did_not_change_is_not_written_again(folder: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RolloutFiles(folder)
    store.save(rollout())
    store.keep(kept(service()))
    written: list[object] = []
    monkeypatch.setattr(StateDir, "write_bytes", lambda *asked: written.append(asked))
    store.save(rollout())
    store.keep(kept(service()))
    assert not written


def test_what_is_on_disk_is_not_written_again_after_a_restart(
    folder: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    RolloutFiles(folder).save(rollout())
    store = RolloutFiles(folder)
    store.load()
    written: list[object] = []
    monkeypatch.setattr(StateDir, "write_bytes", lambda *asked: written.append(asked))
    store.save(rollout())
    assert not written


def test_revisions_that_nobody_can_go_back_to_are_forgotten(folder: StateDir) -> None:
    one, two = kept(service()), kept(service(image="demo:2"))
    store = RolloutFiles(folder)
    store.keep(one)
    store.keep(two)
    store.forget_all_but([two.revision])
    assert store.kept() == RolloutFiles(folder).kept() == (two,)


@pytest.mark.fault("C6")
@pytest.mark.parametrize(
    "name", [rollout_store.ROLLOUT, rollout_store.LAST_GOOD, f"revisions/{release().revision}.json"]
)
@pytest.mark.parametrize("damage", ["cut", "newer format", "wrong shape", "not json"])
def test_a_file_that_is_damaged_or_newer_counts_as_absent(folder: StateDir, name: str, damage: str) -> None:
    store = RolloutFiles(folder)
    store.save(rollout(state(candidate=group())))
    store.admit(desired())
    store.keep(kept(service()))
    path = folder.path / name
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif damage == "not json":
        path.write_bytes(b"\0" * 100)
    elif damage == "newer format":
        value = folder.load_json(name).value
        assert value is not None
        folder.save_json(name, {**value, "format": rollout_store.FORMAT + 1})
    else:
        folder.save_json(name, {"format": rollout_store.FORMAT, "value": {"services": 3, "project": []}})
    again = RolloutFiles(folder)
    found = {
        rollout_store.ROLLOUT: again.load() != Rollout(),
        rollout_store.LAST_GOOD: again.last_good() is not None,
        f"revisions/{release().revision}.json": again.kept() != (),
    }
    assert found == {other: other != name for other in found}


@pytest.mark.fault("A13")
def test_one_revision_of_a_newer_version_does_not_hide_the_others(folder: StateDir) -> None:
    store = RolloutFiles(folder)
    store.keep(kept(service()))
    newer = folder.path / "revisions" / f"{'f' * 64}.json"
    text = (folder.path / "revisions" / f"{kept(service()).revision}.json").read_bytes()
    newer.write_bytes(text.replace(b'{"format":1,', b'{"format":999,', 1))
    assert RolloutFiles(folder).kept() == (kept(service()),)
    assert newer.exists(), "what a newer version wrote is left alone"


@pytest.mark.fault("A13")
def test_a_rollout_of_a_newer_version_is_refused_and_left_alone(folder: StateDir) -> None:
    RolloutFiles(folder).save(rollout())
    path = folder.path / rollout_store.ROLLOUT
    newer = path.read_bytes().replace(b'{"format":1,', b'{"format":999,', 1)
    path.write_bytes(newer)
    with pytest.raises(StateError, match="newer version"):
        RolloutFiles(folder).load()
    assert path.read_bytes() == newer
