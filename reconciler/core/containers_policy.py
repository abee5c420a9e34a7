"""OPA's container: no network at all, a socket in a folder it shares with us, and nothing else it could write to.

Nobody reaches it through nginx or from a container, since there is no wire between them.
"""

from __future__ import annotations

from reconciler.core.container import ContainerSpec
from reconciler.core.desired import DesiredState, Mount
from reconciler.core.observed import ObservedImage

SOCKET = "opa.sock"
MEMORY_BYTES = 256 * 1024 * 1024
_HEAP_TARGET = "192MiB"


def policy_container(
    desired: DesiredState, image: ObservedImage, revision: str, *, rendered_dir: str, run_dir: str, uid: str
) -> ContainerSpec:
    """OPA serving the policies of `revision`; a change of policy or limits is another container.

    `rendered_dir` and `run_dir` are absolute, `uid` is `uid:gid`, may write to `<run_dir>/opa/<revision>` and
    is not root. SIGKILL stops it: it has nothing to save, and on any other signal it would remove the socket
    by name, which by then may be its successor's.
    """
    assert revision, "policies without a revision cannot be told apart"
    return ContainerSpec(
        image=image.used or desired.opa.image,
        image_id=image.id,
        command=command(),
        environment=(("GOMAXPROCS", "1"), ("GOMEMLIMIT", _HEAP_TARGET)),
        user=uid,
        network=None,
        mounts=(
            Mount("bind", f"{rendered_dir}/opa/{revision[:12]}", "/policy", read_only=True),
            Mount("bind", f"{run_dir}/opa-auth", "/auth", read_only=True),
            Mount("bind", f"{run_dir}/opa/{revision[:12]}", "/run/opa"),
        ),
        read_only=True,
        restart_policy="unless-stopped",
        stop_signal="SIGKILL",
        stop_grace_period_s=1.0,
        memory_bytes=MEMORY_BYTES,
        pids=64,
    )


def command(*, policy: str = "/policy", auth: str = "/auth", sockets: str = "/run/opa") -> tuple[str, ...]:
    """OPA's arguments. Both folders are loaded at the root of `data`: their files' names are no part of it."""
    return (
        "run",
        "--server",
        f"--addr=unix://{sockets}/{SOCKET}",
        "--unix-socket-perm=600",
        "--authentication=token",
        "--authorization=basic",
        "--log-level=error",
        "--skip-version-check",
        policy,
        auth,
    )
