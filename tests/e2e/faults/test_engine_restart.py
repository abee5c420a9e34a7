"""The engine itself is killed and started again in the middle of a canary: a second one, beside the machine's."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.faults import tools

ROOT = Path(__file__).resolve().parents[3]
APART = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
BY_INIT = ("/bin/sh", "-c", '"$@"; exit $?', "sh")
"""Process 1 of its own processes: what the engine leaves behind when it is killed has to be reaped."""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sd-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture
def found(folder: Path) -> dict[str, Any]:
    """What came of two updates, each with a death of the engine at its canary's step."""
    tools.root_for("an engine of our own")
    if subprocess.run([*APART, "true"], capture_output=True).returncode:
        pytest.skip("LEFT OUT: this machine gives nobody namespaces of their own (unshare), so no second engine.")
    program = [sys.executable, "-m", "tests.e2e.faults.private_engine", str(folder)]
    done = subprocess.run([*APART, *BY_INIT, *program], cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, f"{done.stderr}\n{_last_words(folder)}"
    return dict(json.loads(done.stdout))


def _last_words(folder: Path) -> str:
    texts = [(folder / name).read_text(errors="replace")[-3000:] for name in ("dockerd.log", "daemon.log")]
    return "\n".join(texts)


@pytest.mark.fault("B2", "A14", "B35")
def test_an_engine_killed_mid_canary_must_cost_nothing_but_what_it_stopped_itself(found: dict[str, Any]) -> None:
    for way, seen in found.items():
        assert seen["services"] == ["app", "nginx", "opa"], way
        assert (seen["quarantined"], seen["daemon_deaths"], seen["history"]) == ([], 0, ""), way
    assert found["live_restore"]["failed"] == {}, "containers went on without the engine, and so did requests"
    assert found["live_restore"]["answered"] > 0
