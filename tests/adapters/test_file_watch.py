"""Whatever changes what the manifest holds is heard of; a rename into place is told from writing in place."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from watchdog.observers import Observer

from reconciler.adapters.file_watch import FileWatch, watched_folders

LIMIT_S = 20.0


class Ear:
    """A watch, and what was heard."""

    def __init__(self, manifest: Path) -> None:
        self.heard: queue.Queue[bool] = queue.Queue()
        self.watch = FileWatch(manifest, self.heard.put)

    def hears(self, do: Callable[[], object]) -> bool:
        """After what happens: whether it was said that the file came whole."""
        do()
        return self.heard.get(timeout=LIMIT_S)

    def hears_a_rename(self, do: Callable[[], object]) -> bool:
        do()
        while not self.heard.get(timeout=LIMIT_S):
            pass
        return True


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "manifest.yaml"
    path.write_text("one")
    return path


@pytest.fixture
def ear(manifest: Path) -> Iterator[Ear]:
    made = Ear(manifest)
    yield made
    made.watch.stop()


def test_a_rename_into_place_is_heard_as_one(ear: Ear, manifest: Path) -> None:
    new = manifest.with_name(".new")
    new.write_text("two")
    assert ear.hears_a_rename(lambda: os.replace(new, manifest))


def test_writing_in_place_is_heard_and_is_no_rename(ear: Ear, manifest: Path) -> None:
    assert ear.hears(lambda: manifest.write_text("two")) is False


@pytest.mark.fault("E3")
def test_a_file_that_is_deleted_and_made_anew_is_heard(ear: Ear, manifest: Path) -> None:
    assert ear.hears(manifest.unlink) is False
    while not ear.heard.empty():
        ear.heard.get()
    assert ear.hears(lambda: manifest.write_text("two")) is False


def test_moving_the_file_away_is_heard(ear: Ear, manifest: Path) -> None:
    assert ear.hears(lambda: manifest.rename(manifest.with_name("gone"))) is False


def test_other_files_in_the_folder_are_nobodys_business(ear: Ear, manifest: Path) -> None:
    (manifest.parent / "notes.txt").write_text("hello")
    os.replace(manifest.parent / "notes.txt", manifest.parent / "older.txt")
    new = manifest.with_name(".new")
    new.write_text("two")
    assert ear.hears(lambda: os.replace(new, manifest)) is True, "events come in order, so nothing came before"


def test_env_files_and_policies_are_heard(ear: Ear, manifest: Path) -> None:
    assert ear.hears(lambda: (manifest.parent / "app.env").write_text("A=1")) is False


def test_a_policies_folder_that_comes_later_is_watched_too(ear: Ear, manifest: Path) -> None:
    folder = manifest.parent / "policies"
    ear.hears(folder.mkdir)
    rego = folder / "mine.rego"
    heard = False
    for number in range(200):  # until the new watch is in place
        rego.write_text(f"package a # {number}")
        try:
            heard = ear.heard.get(timeout=0.1) is False
        except queue.Empty:
            continue
        break
    assert heard


def test_turning_the_link_to_the_folder_is_heard(tmp_path: Path) -> None:
    for name in ("v1", "v2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.yaml").write_text(name)
    (tmp_path / "current").symlink_to("v1")
    ear = Ear(tmp_path / "current/manifest.yaml")
    (tmp_path / "next").symlink_to("v2")
    whole = ear.hears(lambda: os.replace(tmp_path / "next", tmp_path / "current"))
    ear.watch.stop()
    assert whole is False, "heard, and not as a file that was renamed into its place"


def test_the_file_behind_a_link_that_was_turned_is_still_heard(tmp_path: Path) -> None:
    for name in ("v1", "v2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.yaml").write_text(name)
    (tmp_path / "current").symlink_to("v1")
    ear = Ear(tmp_path / "current/manifest.yaml")
    (tmp_path / "next").symlink_to("v2")
    ear.hears(lambda: os.replace(tmp_path / "next", tmp_path / "current"))
    new = tmp_path / "v2/.new"
    heard = False
    for _ in range(50):  # until the new watch is in place
        new.write_text("three")
        os.replace(new, tmp_path / "v2/manifest.yaml")
        try:
            heard = heard or ear.heard.get(timeout=0.1)
        except queue.Empty:
            continue
        if heard:
            break
    ear.watch.stop()
    assert heard


def test_every_folder_that_matters_is_watched_once(tmp_path: Path) -> None:
    (tmp_path / "real/policies").mkdir(parents=True)
    (tmp_path / "current").symlink_to("real")
    assert watched_folders(tmp_path / "current/manifest.yaml") == (
        tmp_path / "real",
        tmp_path,
        tmp_path / "real/policies",
    )


def test_a_folder_that_is_not_there_cannot_be_watched(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        FileWatch(tmp_path / "nowhere/manifest.yaml", lambda _: None)


@pytest.mark.fault("C10")
def test_where_inotify_has_no_watches_left_the_folder_is_looked_at_now_and_then(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(Observer, "schedule", refuse)
    ear = Ear(manifest)
    assert ear.watch.is_polling
    assert ear.hears(lambda: manifest.write_text("two, and longer")) is False
    ear.watch.stop()
