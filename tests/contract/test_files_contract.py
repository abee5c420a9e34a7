"""What every Files refuses, and then what it does. Runs in memory and on a real folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from reconciler.adapters.memory import MemoryFiles
from reconciler.adapters.rendered_files import RenderedFiles
from reconciler.core.plan import Outcome, RemoveFile, WriteFile
from reconciler.ports import Files


@pytest.fixture(params=["memory", "folder"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    return MemoryFiles() if request.param == "memory" else RenderedFiles(tmp_path / "rendered")


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../outside", "a/../../outside", "a//b", "./a", "a/", "..", ".", "a\0b", "a/../b"]
)
def test_nothing_outside_the_folder_is_written_or_removed(files: Files, path: str, tmp_path: Path) -> None:
    for action in (WriteFile(path, "x"), RemoveFile(path)):
        assert files.apply(action).outcome is Outcome.FAILED
    assert files.digests() == {}
    assert not (tmp_path / "outside").exists()


def test_a_file_is_no_folder_and_a_folder_no_file(files: Files) -> None:
    assert files.apply(WriteFile("a/b", "x")).outcome is Outcome.OK
    assert files.apply(WriteFile("a/b/c", "x")).outcome is Outcome.FAILED
    assert files.apply(WriteFile("a", "x")).outcome is Outcome.FAILED
    assert files.digests() == {"a/b": sha256("x")}


def test_an_empty_folder_has_no_files(files: Files) -> None:
    assert files.digests() == {}


def test_what_was_written_is_there(files: Files) -> None:
    for path, text in (("a", "one"), ("b/c/d", "zwei äöü\n"), ("b/c/e", "")):
        assert files.apply(WriteFile(path, text)).outcome is Outcome.OK
    assert files.digests() == {"a": sha256("one"), "b/c/d": sha256("zwei äöü\n"), "b/c/e": sha256("")}


def test_a_second_text_replaces_the_first_at_once(files: Files) -> None:
    for text in ("one", "two", "one"):
        assert files.apply(WriteFile("a/b", text)).outcome is Outcome.OK
        assert files.digests() == {"a/b": sha256(text)}


def test_what_is_removed_is_gone_and_removing_it_again_is_fine(files: Files) -> None:
    files.apply(WriteFile("a/b", "x"))
    for _ in range(2):
        assert files.apply(RemoveFile("a/b")).outcome is Outcome.OK
        assert files.digests() == {}
    assert files.apply(RemoveFile("never/was")).outcome is Outcome.OK
