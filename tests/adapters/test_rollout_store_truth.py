"""What is on disk is what was saved last: whatever failed on the way, and whoever removes files while we run."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.adapters.rollout_store import LAST_GOOD, ROLLOUT, RolloutFiles
from reconciler.adapters.state_dir import StateDir
from reconciler.core.errors import StateError
from reconciler.core.rollout import Phase, Rollout
from reconciler.core.words import Teardown, hear
from tests.builders import desired, kept, rollout, service, state

ONE, TWO = kept(service()), kept(service(image="demo:2"))
REST = rollout()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StateDir]:
    with StateDir(tmp_path / "state") as opened:
        yield opened


@pytest.fixture
def store(folder: StateDir) -> RolloutFiles:
    """One that has saved a rollout, a manifest and two revisions."""
    files = RolloutFiles(folder)
    files.load()
    files.save(REST)
    files.admit(desired())
    files.keep(ONE)
    files.keep(TWO)
    files.forget_all_but([ONE.revision, TWO.revision])
    return files


def cycle(files: RolloutFiles, now: Rollout = REST) -> None:
    """What a cycle at rest does with the store: the first revision is wanted, the second one can be gone back to."""
    files.keep(ONE)
    files.save(now)
    files.forget_all_but([ONE.revision, TWO.revision])


def fails_for_directories(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on the sync of a directory, which comes after a file took its name, fails; the answer ends that."""
    real = os.fsync

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    return lambda: monkeypatch.setattr(os, "fsync", real)


# ---------------------------------------------------------------- a save that failed


@pytest.mark.fault("C2")
@pytest.mark.parametrize("then", [state(Phase.ABSENT, stable=None), state()], ids=["something else", "as it was"])
def test_after_a_save_that_failed_once_the_file_had_its_name_the_next_one_is_written(
    folder: StateDir, store: RolloutFiles, monkeypatch: pytest.MonkeyPatch, then: object
) -> None:
    works_again = fails_for_directories(monkeypatch)
    with pytest.raises(StateError):
        store.save(hear(REST, Teardown()))
    works_again()
    assert RolloutFiles(folder).load().torn_down, "it had come as far as the disk"
    now = rollout(then) if then != state() else REST  # type: ignore[arg-type]
    store.save(now)
    assert RolloutFiles(folder).load() == now


@pytest.mark.fault("C2")
def test_a_revision_whose_removal_failed_halfway_is_kept_again_where_it_is_wanted_again(
    folder: StateDir, store: RolloutFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    works_again = fails_for_directories(monkeypatch)
    with pytest.raises(StateError):
        store.forget_all_but([ONE.revision])
    works_again()
    store.keep(TWO)
    assert {one.revision for one in RolloutFiles(folder).kept()} == {ONE.revision, TWO.revision}


# ---------------------------------------------------------------- removed while we run


@pytest.mark.fault("C6")
@pytest.mark.parametrize(
    "name", [ROLLOUT, LAST_GOOD, f"revisions/{ONE.revision}.json", f"revisions/{TWO.revision}.json"]
)
@pytest.mark.parametrize("how", ["removed", "another one in its place"])
def test_a_file_that_somebody_removes_or_replaces_is_there_again_after_a_cycle(
    folder: StateDir, store: RolloutFiles, name: str, how: str
) -> None:
    path = folder.path / name
    before = path.read_bytes()
    path.unlink()
    if how != "removed":
        path.write_bytes(b"{}")
    cycle(store)
    assert path.read_bytes() == before
    again = RolloutFiles(folder)
    assert (again.load(), again.last_good(), len(again.kept())) == (REST, desired(), 2)


def test_a_revision_is_there_again_even_where_a_cycle_goes_no_further(folder: StateDir, store: RolloutFiles) -> None:
    path = folder.path / "revisions" / f"{ONE.revision}.json"
    path.unlink()
    store.keep(ONE)
    assert path.exists()


@pytest.mark.fault("C6")
def test_the_whole_folder_of_revisions_is_there_again(folder: StateDir, store: RolloutFiles) -> None:
    os.rename(folder.path / "revisions", folder.path / "elsewhere")
    cycle(store)
    assert {one.revision for one in RolloutFiles(folder).kept()} == {ONE.revision, TWO.revision}


def test_what_was_forgotten_stays_so(folder: StateDir, store: RolloutFiles) -> None:
    for _ in range(3):
        store.forget_all_but([ONE.revision])
    assert RolloutFiles(folder).kept() == (ONE,)


def test_what_was_read_at_the_start_is_written_again_too(folder: StateDir, store: RolloutFiles) -> None:
    again = RolloutFiles(folder)
    assert (again.load(), again.last_good(), len(again.kept())) == (REST, desired(), 2)
    for path in (folder.path / ROLLOUT, folder.path / LAST_GOOD, *(folder.path / "revisions").iterdir()):
        path.unlink()
    cycle(again)
    last = RolloutFiles(folder)
    assert (last.load(), last.last_good(), len(last.kept())) == (REST, desired(), 2)


def test_what_cannot_be_written_again_is_tried_in_each_cycle(
    folder: StateDir, store: RolloutFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.path / ROLLOUT).unlink()
    works_again = fails_for_directories(monkeypatch)
    with pytest.raises(StateError):
        cycle(store)
    works_again()
    cycle(store)
    assert RolloutFiles(folder).load() == REST


def test_a_cycle_at_rest_reads_lists_and_writes_nothing(
    folder: StateDir, store: RolloutFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("write_bytes", "read_bytes", "_read", "names", "remove", "_directory"):
        monkeypatch.setattr(StateDir, name, lambda *_, name=name, **__: pytest.fail(f"{name} at rest"))
    looked: list[str] = []
    lstat = os.lstat

    def counted(path: str) -> os.stat_result:
        looked.append(path)
        return lstat(path)

    monkeypatch.setattr(os, "lstat", counted)
    cycle(store)
    assert len(looked) == len(set(looked)) == 4, "each file once"


def test_a_state_directory_that_never_held_a_rollout_is_given_none_by_an_idle_cycle(folder: StateDir) -> None:
    files = RolloutFiles(folder)
    files.save(files.load())
    assert not (folder.path / ROLLOUT).exists()
