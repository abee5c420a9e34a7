"""The daemon as the console script starts it, from a shell that tells Python things."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

RECONCILERD = Path(sysconfig.get_path("scripts")) / "reconcilerd"


def started(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [str(RECONCILERD), *words], env={**environment, **variables}, capture_output=True, text=True, check=False
    )


@pytest.mark.fault("A18")
@pytest.mark.parametrize("module", ["structlog", "docker", "yaml", "json"])
def test_modules_that_a_shell_puts_in_the_way_are_not_run(tmp_path: Path, module: str) -> None:
    (tmp_path / f"{module}.py").write_text("raise SystemExit('planted')\n")
    told = subprocess.run(
        [sys.executable, "-c", f"import {module}"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "planted" in told.stderr, "the trap works"
    found = started("--version", PYTHONPATH=str(tmp_path))
    assert (found.returncode, "planted" in found.stderr) == (0, False), found.stderr
    assert found.stdout.startswith("reconcilerd ")


@pytest.mark.fault("A18")
@pytest.mark.parametrize(
    "variables", [{"PYTHONWARNINGS": "error"}, {"PYTHONOPTIMIZE": "2"}, {"PYTHONINSPECT": "1"}, {"PYTHONVERBOSE": "2"}]
)
def test_nor_do_other_wishes_of_a_shell_reach_it(variables: dict[str, str]) -> None:
    plain, steered = started("--help"), started("--help", **variables)
    assert (steered.returncode, steered.stdout) == (plain.returncode, plain.stdout) == (0, plain.stdout)


def test_wrong_words_are_still_wrong_usage() -> None:
    found = started("--nonsense", PYTHONPATH="/nowhere")
    assert (found.returncode, "Traceback" in found.stderr) == (64, False)
