"""What a container wrote, line by line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import docker

from reconciler.adapters.engine_connection import Connections


def lines(connections: Connections, container_id: str, *, tail: int, follow: bool) -> Iterable[bytes]:
    """Oldest first; a negative `tail` is all of them. Raises EngineError, at once or while lines are read."""
    with connections.translated():
        client = connections.fresh(None if follow else connections.effect_timeout_s)
        chunks = client.logs(container_id, stream=True, follow=follow, tail=tail if tail >= 0 else "all")
    return _split(connections, client, chunks)


def _split(connections: Connections, client: docker.APIClient, chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    try:
        with connections.translated():
            for chunk in chunks:
                *whole, rest = (rest + chunk).split(b"\n")
                yield from whole
        if rest:
            yield rest
    finally:
        client.close()
