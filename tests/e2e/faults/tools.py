"""Tools of the distribution that only these tests need: installed when absent, as the images and OPA are.

Where one cannot be had, the test that asks is skipped, and the reason says why.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from fcntl import LOCK_EX, flock
from pathlib import Path

import pytest

COMMON = Path(__file__).resolve().parents[3] / "scripts" / "common.sh"
FAKETIME = "/usr/lib/{}-linux-gnu/faketime/libfaketime.so.1"


def strace() -> str:
    """The path of strace."""
    return _installed("strace", "strace", lambda: shutil.which("strace"))


def faketime() -> str:
    """The path of libfaketime, to be preloaded."""
    path = Path(FAKETIME.format(os.uname().machine))
    return _installed("libfaketime", "libfaketime", lambda: str(path) if path.exists() else None)


def root_for(what: str) -> None:
    """Skips where we are not root."""
    if os.geteuid() != 0:
        pytest.skip(f"LEFT OUT: {what} needs root.")


def _installed(what: str, package: str, where: Callable[[], str | None]) -> str:
    with Path("/tmp/swiftdeploy-test-tools.lock").open("w") as lock:  # workers run side by side, apt does not
        flock(lock, LOCK_EX)
        if found := where():
            return found
        command = f'. "{COMMON}"; install_packages {what} {package}'
        done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        found = where()
    if not found:
        pytest.skip(f"LEFT OUT: {what} is not here. {(done.stderr or done.stdout).strip()[-300:]}")
    return found
