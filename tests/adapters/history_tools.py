"""Small logs for tests, and eyes of their own to look at them with: nothing here asks the code that is tested."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.history_checkpoints import Checkpoints
from reconciler.adapters.history_file import HistoryFile, HistoryReader
from reconciler.adapters.history_key import HistoryKey

NOW = "2026-11-23T01:02:03Z"
needs_ssh_keygen = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs ssh-keygen")


class Watch:
    """A clock that stands until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def say_so(_message: bytes) -> str:
    """A signature that no key made, for tests that are not about signatures."""
    return "bm90IHJlYWw="


def log(directory: Path, size: int = 10**7, every: int = 0, **more: Any) -> HistoryFile:
    """A writer; with `every` it writes a checkpoint after so many records, signed by `sign`."""
    directory.mkdir(exist_ok=True)
    sign, clock = more.pop("sign", say_so), more.pop("clock", Watch())
    checkpoints = Checkpoints(sign, clock, every) if every else None
    return HistoryFile(directory, "demo", "1", lambda: "id", size, checkpoints=checkpoints, **more)


def signed(directory: Path, count: int, size: int = 10**7, every: int = 8, **more: Any) -> HistoryFile:
    """A log of `count` records with real signatures, closed."""
    directory.mkdir(exist_ok=True)
    made = log(directory, size, every, sign=HistoryKey(directory).sign, **more)
    fill(made, count)
    made.close()
    return made


def fill(made: HistoryFile, count: int, start: int = 0, pad: int = 100) -> None:
    for number in range(start, start + count):
        made.append({"kind": "cycle", "number": number, "pad": "x" * pad}, NOW)


def kinds(directory: Path) -> list[str]:
    return [str(record["kind"]) for record in HistoryReader(directory).read()]


def numbers(directory: Path) -> list[int]:
    return [record["number"] for record in HistoryReader(directory).read() if "number" in record]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name.startswith("history-0"))


def raw_lines(directory: Path) -> list[bytes]:
    """Every line of every segment, oldest first; of one that is there twice, the plain file's."""
    stems = sorted({path.name.removesuffix(".gz") for path in directory.glob("history-*.jsonl*")} - {"x"})
    content = b""
    for name in [stem for stem in stems if stem.endswith(".jsonl")] + ["history.jsonl"]:
        plain = directory / name
        content += plain.read_bytes() if plain.exists() else gzip.decompress((directory / f"{name}.gz").read_bytes())
    return content.split(b"\n")[:-1]


def independent_length(directory: Path) -> int:
    """How many records the chain has, by hashlib and json alone; an AssertionError where it does not hold."""
    prev, seq = "0" * 64, 0
    for line in raw_lines(directory):
        record = json.loads(line)
        cut = line.replace(b'"hash":"%b",' % record["hash"].encode(), b"", 1)
        assert record["hash"] == hashlib.sha256(b"swiftdeploy-history-v1\0" + cut).hexdigest()
        assert (record["prev"], record["seq"]) == (prev, seq + 1)
        prev, seq = record["hash"], record["seq"]
    return seq


def rechained(lines: list[bytes]) -> list[bytes]:
    """The lines with a chain that holds again: what somebody would do who knows the format."""
    prev, done = "0" * 64, []
    for seq, line in enumerate(lines, 1):
        body = line.split(b',"seq":', 1)[1].split(b",", 1)[1]
        rest = b'"prev":"%b","seq":%d,%b' % (prev.encode(), seq, body)
        prev = hashlib.sha256(b"swiftdeploy-history-v1\0{" + rest).hexdigest()
        done.append(b'{"hash":"%b",%b' % (prev.encode(), rest))
    return done


def failing(error: int) -> Callable[..., Any]:
    def call(*_given: Any, **_named: Any) -> Any:
        raise OSError(error, "as the test wants it")

    return call
