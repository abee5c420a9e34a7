"""Releases with a character: images of the sample service that are fine, fail, drag, crash, or turn bad later.

    Stack.write(stack.manifest().replace(IMAGE, variant("errors")))

Each is the real service with one thing changed, built here from the image that the other tests use; nothing is pulled.
"""

from __future__ import annotations

import functools
import hashlib
import io
import tarfile

import docker
import docker.errors

from tests.e2e.stack import IMAGE

REPOSITORY = "swiftdeploy-test/workload"
ERROR_SHARE = 0.05
SLOW_SHARE = 0.03
SLOW_S = 0.8
FINE_FOR_S = 20
LATE_ERROR_SHARE = 0.5

CHARACTERS = {
    "healthy": "",
    "errors": f"strikes(lambda: failing({ERROR_SHARE}))",
    "slow": f"strikes(lambda: dragging({SLOW_SHARE}, {SLOW_S}))",
    "crash": 'sys.exit("This release crashes as it starts.")',
    "unhealthy": "never_healthy()",
    "late": f"strikes(lambda: failing({LATE_ERROR_SHARE} if monotonic() - began > fine_for_s else 0))",
}
"""What each kind does before it serves. `late` is fine for FINE_FOR_S; its environment may say another number."""

PROGRAM = '''\
"""The sample service, with one thing changed."""

import asyncio
import os
import random
import sys
from time import monotonic

sys.path.insert(0, "/app")
import app
from service import INJECTED_ERROR, Refused, Service, answer

began = monotonic()
fine_for_s = float(os.environ.get("FINE_FOR_S", "DEFAULT_S"))
# A sequence of its own: equal shares for every request, and no two containers alike.
draw = random.SystemRandom().random


async def failing(share):
    if draw() < share:
        raise Refused(INJECTED_ERROR)


async def dragging(share, seconds):
    if draw() < share:
        await asyncio.sleep(seconds)


def strikes(blow):
    """Every request of work takes it; health, metrics and chaos do not. Chaos comes on top."""
    calm = Service._strike

    async def strike(self, receive):
        await blow()
        await calm(self, receive)

    Service._strike = strike


def never_healthy():
    Service._health = lambda self, request: answer({"status": "starting"}, status=503)


CHARACTER
sys.exit(app.main())
'''


@functools.cache
def variant(kind: str) -> str:
    """Reference of the image of that kind (see CHARACTERS), built when it is not here.

    The tag follows the base image and all that is put on top, so an old build is never taken for a new one.
    """
    client = docker.from_env()
    try:
        base = client.images.get(IMAGE)
        program = PROGRAM.replace("DEFAULT_S", str(FINE_FOR_S)).replace("CHARACTER\n", f"{CHARACTERS[kind]}\n")
        recipe = _recipe(kind)
        digest = hashlib.sha256(f"{base.id}\0{recipe}\0{program}".encode()).hexdigest()[:12]
        reference = f"{REPOSITORY}-{kind}:{digest}"
        try:
            client.images.get(reference)
        except docker.errors.ImageNotFound:
            context = _context({"Dockerfile": recipe, "release.py": program})
            client.images.build(fileobj=context, custom_context=True, tag=reference, rm=True, pull=False)
        return reference
    finally:
        client.close()


def _recipe(kind: str) -> str:
    return (
        f"FROM {IMAGE}\n"
        f'LABEL io.swiftdeploy.test.kind="{kind}"\n'
        "COPY release.py /release.py\n"
        'CMD ["python3", "/release.py"]\n'
    )


def _context(files: dict[str, str]) -> io.BytesIO:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), 0o644
            archive.addfile(entry, io.BytesIO(text.encode()))
    packed.seek(0)
    return packed
