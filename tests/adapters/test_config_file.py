"""The daemon's own file on a real file system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.adapters.config_file import read_config
from reconciler.formats.daemon_config import ConfigReading, DaemonConfig
from reconciler.formats.yaml_strict import MAX_BYTES


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reconciler.yaml"


def put(path: Path, text: str = "group: wheel\n", mode: int = 0o644) -> ConfigReading:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return read_config(path, required=True)


def told(reading: ConfigReading) -> str:
    assert reading.config is None
    return str(reading.problems[0])


def test_it_is_read(path: Path) -> None:
    assert put(path) == ConfigReading(DaemonConfig(group="wheel"))
    assert put(path, mode=0o600) == ConfigReading(DaemonConfig(group="wheel"))


def test_what_is_wrong_in_it_names_the_file(path: Path) -> None:
    assert told(put(path, "grup: wheel\n")).startswith(f"{path}:1:1: grup is no key. Did you mean group?")


def test_a_missing_file_says_nothing_unless_it_was_named(path: Path) -> None:
    assert read_config(path, required=False) == ConfigReading(DaemonConfig())
    assert "is not there" in told(read_config(path, required=True))
    assert "cannot be read: Not a directory" in told(read_config(Path(__file__) / "x", required=False))


def test_only_a_regular_file_is_read_and_nothing_waits(path: Path, tmp_path: Path) -> None:
    os.mkfifo(path)
    assert "is not a regular file" in told(read_config(path, required=True))
    assert "is not a regular file" in told(read_config(Path("/dev/zero"), required=True))
    assert "is not a regular file" in told(read_config(tmp_path, required=True))


def test_a_file_without_an_end_is_cut(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(4 * 2**30)
    assert f"At most {MAX_BYTES}" in told(read_config(path, required=True))


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646, 0o622])
def test_a_file_that_others_may_write_is_warned_of(path: Path, mode: int) -> None:
    reading = put(path, mode=mode)
    assert reading.config == DaemonConfig(group="wheel")
    assert "others may write it" in str(reading.warnings[0])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_warned_of(path: Path) -> None:
    put(path)
    os.chown(path, 12345, -1)
    assert "belongs to the user 12345" in str(read_config(path, required=True).warnings[0])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_told(path: Path) -> None:
    assert "cannot be read: Permission denied" in told(put(path, mode=0o000))
