"""The folder of rendered files, under people and disks that do not behave."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.adapters import rendered_files
from reconciler.adapters.rendered_files import UNREADABLE, RenderedFiles
from reconciler.core.plan import OK, Outcome, RemoveFile, WriteFile

LATER_S = 1e10


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "rendered"


@pytest.fixture
def files(root: Path) -> RenderedFiles:
    return RenderedFiles(root, now=lambda: LATER_S)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# ── refusals ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("C8")
def test_a_link_in_a_files_place_is_refused_and_its_target_stays(files: RenderedFiles, root: Path) -> None:
    target = root.parent / "target"
    target.write_text("precious")
    root.mkdir()
    (root / "a").symlink_to(target)
    for action in (WriteFile("a", "x"), RemoveFile("a")):
        refused = files.apply(action)
        assert refused.outcome is Outcome.FAILED
        assert "a link" in refused.detail
    assert target.read_text() == "precious"
    assert files.digests() == {}


def test_a_link_in_a_folders_place_leads_nowhere(files: RenderedFiles, root: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "b").write_text("precious")
    root.mkdir()
    (root / "a").symlink_to(outside)
    for action in (WriteFile("a/b", "x"), WriteFile("a/c/d", "x"), RemoveFile("a/b")):
        refused = files.apply(action)
        assert refused.outcome is Outcome.FAILED
        assert "Remove it." in refused.detail
    assert [entry.name for entry in outside.iterdir()] == ["b"]
    assert files.digests() == {}


@pytest.mark.fault("C8")
def test_pipes_and_folders_are_neither_read_nor_replaced(files: RenderedFiles, root: Path) -> None:
    root.mkdir()
    os.mkfifo(root / "pipe")
    (root / "folder").mkdir()
    assert files.digests() == {}
    for path in ("pipe", "folder"):
        assert files.apply(WriteFile(path, "x")).outcome is Outcome.FAILED


@pytest.mark.fault("C1", "C2", "C3", "C4")
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errno.ENOSPC, "The disk is full"),
        (errno.EDQUOT, "The disk is full"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "could not be written"),
    ],
)
@pytest.mark.parametrize("call", ["fsync", "rename", "open"])
def test_a_disk_that_refuses_leaves_the_old_file_and_nothing_else(
    files: RenderedFiles, root: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: int, words: str
) -> None:
    assert files.apply(WriteFile("a/b", "old")) == OK
    original = getattr(os, call)

    def refuse(*arguments: object, **options: object) -> object:
        if call == "open" and not arguments[1] & os.O_CREAT:  # type: ignore[operator]
            return original(*arguments, **options)
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as broken:
        broken.setattr(rendered_files.os, call, refuse)
        failed = files.apply(WriteFile("a/b", "new"))
    assert failed.outcome is Outcome.FAILED
    assert words in failed.detail
    assert (root / "a/b").read_text() == "old"
    assert [entry.name for entry in (root / "a").iterdir()] == ["b"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_disk_that_is_really_full_says_so(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if os.geteuid() or os.system(f"mount -t tmpfs -o size=64k none {small} 2>/dev/null"):
        pytest.skip("cannot mount a small file system here")
    try:
        files = RenderedFiles(small)
        assert files.apply(WriteFile("a", "old")) == OK
        failed = files.apply(WriteFile("a", "x" * 200_000))
        assert failed.outcome is Outcome.FAILED
        assert "The disk is full" in failed.detail
        assert files.digests() == {"a": sha256("old")}
    finally:
        os.system(f"umount {small}")


# ── what it does ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("I11")
def test_an_edit_by_hand_is_seen_whatever_it_keeps(files: RenderedFiles, root: Path) -> None:
    files.apply(WriteFile("a", "one"))
    files.digests()
    before = (root / "a").stat()
    (root / "a").write_text("two")
    os.utime(root / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert files.digests() == {"a": sha256("two")}


def test_a_file_that_just_changed_is_not_trusted_by_its_time_stamp(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two writes within one tick of the file system's clock have one time stamp."""
    files = RenderedFiles(root)
    files.apply(WriteFile("a", "one"))
    files.digests()
    monkeypatch.setattr(rendered_files, "_fingerprint", lambda found: ((0, 0, 0, 0), found.st_mtime))
    files.digests()
    (root / "a").write_text("two")
    assert files.digests() == {"a": sha256("two")}


def test_a_file_that_did_not_change_is_not_read_again(files: RenderedFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    files.apply(WriteFile("a", "one"))
    first = files.digests()

    def read(_path: str) -> str:
        raise AssertionError("read again")

    monkeypatch.setattr(rendered_files, "_sha256_of", read)
    assert files.digests() == first


@pytest.mark.fault("C11")
def test_a_file_nobody_can_read_differs_from_every_text(
    files: RenderedFiles, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.apply(WriteFile("a", "one"))

    def refuse(_path: str) -> str:
        raise PermissionError(errno.EACCES, "no")

    with monkeypatch.context() as broken:
        broken.setattr(rendered_files, "_sha256_of", refuse)
        assert files.digests() == {"a": UNREADABLE}
    assert files.digests() == {"a": sha256("one")}


def test_what_the_proxy_keeps_there_is_none_of_ours(files: RenderedFiles, root: Path) -> None:
    files.apply(WriteFile("nginx/live/nginx.conf", "x"))
    for folder in ("flags/app", "sets/5", "next"):
        (root / "nginx/live" / folder).mkdir(parents=True)
        (root / "nginx/live" / folder / "0").touch()
    assert files.digests() == {"nginx/live/nginx.conf": sha256("x")}


@pytest.mark.fault("C5")
def test_what_a_crash_left_half_written_is_neither_seen_nor_in_the_way(files: RenderedFiles, root: Path) -> None:
    files.apply(WriteFile("a", "one"))
    (root / ".a.swiftdeploy-new").write_text("ha")
    assert files.digests() == {"a": sha256("one")}
    assert files.apply(WriteFile("a", "two")) == OK
    assert [entry.name for entry in root.iterdir()] == ["a"]


@pytest.fixture
def strict_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("strict_umask")
def test_a_written_file_can_be_read_by_the_container_that_mounts_it(files: RenderedFiles, root: Path) -> None:
    files.apply(WriteFile("a/b", "x"))
    assert (root / "a/b").stat().st_mode & 0o777 == 0o644
    assert (root / "a").stat().st_mode & 0o777 == 0o755


def test_a_reader_sees_the_old_text_or_the_new_one(files: RenderedFiles, root: Path) -> None:
    files.apply(WriteFile("a", "old"))
    with (root / "a").open() as reader:
        files.apply(WriteFile("a", "new"))
        assert reader.read() == "old"
    assert (root / "a").read_text() == "new"
