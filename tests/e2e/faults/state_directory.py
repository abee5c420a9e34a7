"""A new version under every fault of the state directory, on the real stack under traffic.

    python -m tests.e2e.faults.state_directory

Expected of each: no request lost, no torn line, nothing begun that could not be written down first, and the version
arrives by itself: at once where the fault struck once, when the fault ends where it lasted. Exit code 1 if not.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker

from tests.e2e.faults.crash_stack import CrashStack, traffic
from tests.e2e.faults.syscalls import FAULTS, NGINX, SyscallFault, injecting
from tests.e2e.stack import wait_for

LIMIT_S = 90.0
CYCLES = 4
"""How many cycles a fault lasts: enough to take a new manifest in and start its container, if that were let happen."""


@contextmanager
def site(folder: Path, engine: docker.DockerClient) -> Iterator[CrashStack]:
    """A deployed service, version 1.0.0; gone afterwards."""
    stack = CrashStack(folder, engine)
    try:
        stack.start()
        wait_for("deployed", lambda: stack.rests("1.0.0"), LIMIT_S)
        yield stack
    finally:
        stack.clean()


def troubles_of(stack: CrashStack, fault: SyscallFault, version: str) -> list[str]:
    """Let `version` come while the fault is there; what went wrong."""
    found = []
    before = {container.id for container in stack.containers()}
    with traffic(stack.port, 30) as client:
        assert stack.daemon is not None
        with injecting(stack.daemon.pid, stack.folder / "state", fault) as injection:
            stack.write(stack.manifest(service=f'version: "{version}"'))
            if fault.when:
                wait_for(f"{version} in spite of {fault}", lambda: stack.rests(version), LIMIT_S)
            else:
                end = stack.cycles() + CYCLES
                wait_for(f"cycles under {fault}", lambda: stack.cycles() >= end, LIMIT_S)
            wait_for(f"a strike of {fault}", lambda: injection.struck > 0, LIMIT_S)
            begun = {container.id for container in stack.containers()} - before
        if begun and not fault.when and fault.files != NGINX:
            found.append("a container was created although nothing could be written down")
        wait_for(f"{version} after {fault}", lambda: stack.rests(version), LIMIT_S)
    if client.failed or not client.counts:
        found.append(f"requests failed: {client.failed}")
    if stack.deaths:
        found.append("the daemon died")
    if len(stack.containers("app")) != 1:
        found.append("containers were left over")
    broken = stack.history_is_whole()
    return [*found, f"history: {broken}"] if broken else found


def main() -> int:
    failed = 0
    name = tempfile.mkdtemp(prefix="sd-")
    with site(Path(name), docker.from_env()) as stack:
        for number, fault in enumerate(FAULTS, 2):
            troubles = troubles_of(stack, fault, f"{number}.0.0")
            failed += bool(troubles)
            print(f"{'; '.join(troubles) or 'as expected'}: {fault}", flush=True)
    shutil.rmtree(name, ignore_errors=True)
    print(f"system-call faults: {len(FAULTS)}, failures: {failed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
