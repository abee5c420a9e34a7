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
from reconciler.core.rollout import Rollout, ServiceRollout
from reconciler.formats import manifest
from tests.builders import IMAGES, desired, kept, release, rollout, service, state

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


STATES = st.builds(ServiceRollout, since=st.floats(allow_nan=False, allow_infinity=False))


@UNHURRIED
@given(st.builds(Rollout, services=st.dictionaries(st.text(), STATES, max_size=3)))
def test_every_rollout_comes_back_as_it_was(made: Rollout) -> None:
    assert there_and_back(made) == made


@UNHURRIED
@given(STATES)
def test_every_state_of_a_service_comes_back_as_it_was(made: ServiceRollout) -> None:
    assert there_and_back(made) == made


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


def test_an_empty_state_directory_is_an_empty_rollout(folder: StateDir) -> None:
    store = RolloutFiles(folder)
    assert (store.load(), store.kept(), store.last_good()) == (Rollout(), (), None)


def test_what_did_not_change_is_not_written_again(folder: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RolloutFiles(folder)
    store.save(rollout())
    store.keep(kept(service()))
    monkeypatch.setattr(StateDir, "save_json", lambda *_: pytest.fail("written again"))
    store.save(rollout())
    store.keep(kept(service()))


def test_what_is_on_disk_is_not_written_again_after_a_restart(
    folder: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    RolloutFiles(folder).save(rollout())
    store = RolloutFiles(folder)
    store.load()
    monkeypatch.setattr(StateDir, "save_json", lambda *_: pytest.fail("written again"))
    store.save(rollout())


def test_revisions_that_nobody_can_go_back_to_are_forgotten(folder: StateDir) -> None:
    one, two = kept(service()), kept(service(image="demo:2"))
    store = RolloutFiles(folder)
    store.keep(one)
    store.keep(two)
    store.forget_all_but([two.revision])
    assert store.kept() == RolloutFiles(folder).kept() == (two,)


@pytest.mark.parametrize(
    "name", [rollout_store.ROLLOUT, rollout_store.LAST_GOOD, f"revisions/{release().revision}.json"]
)
@pytest.mark.parametrize("damage", ["cut", "newer format", "wrong shape", "not json"])
def test_a_file_that_is_damaged_or_newer_counts_as_absent(folder: StateDir, name: str, damage: str) -> None:
    store = RolloutFiles(folder)
    store.save(rollout(state(candidate=release())))
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


def test_one_revision_of_a_newer_version_does_not_hide_the_others(folder: StateDir) -> None:
    store = RolloutFiles(folder)
    store.keep(kept(service()))
    newer = folder.path / "revisions" / f"{'f' * 64}.json"
    text = (folder.path / "revisions" / f"{kept(service()).revision}.json").read_bytes()
    newer.write_bytes(text.replace(b'{"format":1,', b'{"format":999,', 1))
    assert RolloutFiles(folder).kept() == (kept(service()),)
    assert newer.exists(), "what a newer version wrote is left alone"


def test_a_rollout_of_a_newer_version_is_refused_and_left_alone(folder: StateDir) -> None:
    RolloutFiles(folder).save(rollout())
    path = folder.path / rollout_store.ROLLOUT
    newer = path.read_bytes().replace(b'{"format":1,', b'{"format":999,', 1)
    path.write_bytes(newer)
    with pytest.raises(StateError, match="newer version"):
        RolloutFiles(folder).load()
    assert path.read_bytes() == newer
