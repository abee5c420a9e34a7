"""What a container wrote, line by line."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Literal

from reconciler.adapters.engine_connection import Connections
from reconciler.core.errors import EngineError

POLL_S = 0.5
"""How often a followed log is asked for more: a read that blocks could not be given up when its reader leaves."""


def lines(connections: Connections, container_id: str, *, tail: int, follow: bool) -> Iterable[bytes | None]:
    """Oldest first; a negative `tail` is all of them. Raises EngineError, at once or while lines are read.

    A followed log also yields None whenever there was nothing new, and ends with the container.
    """
    first = _asked(connections, container_id, tail if tail >= 0 else "all", None)
    return _followed(connections, container_id, first) if follow else [line for _, line in first]


def _followed(connections: Connections, container_id: str, first: list[tuple[str, bytes]]) -> Iterator[bytes | None]:
    pause, seen = threading.Event(), ""
    news, is_running = first, True
    while news or is_running:
        for moment, line in news:
            if moment > seen:
                seen = moment
                yield line
        if not news:
            yield None
        pause.wait(POLL_S)
        try:
            is_running = _is_running(connections, container_id)
            news = [new for new in _asked(connections, container_id, "all", seen or None) if new[0] > seen]
        except EngineError as error:
            if "No such container" in str(error):
                return
            raise


def _is_running(connections: Connections, container_id: str) -> bool:
    with connections.translated():
        return connections.asking().inspect_container(container_id)["State"]["Running"] is True


def _asked(
    connections: Connections, container_id: str, tail: int | Literal["all"], since: str | None
) -> list[tuple[str, bytes]]:
    """Lines with the moment each was written (RFC 3339 with nanoseconds, which sort as texts)."""
    with connections.translated():
        client = connections.asking()
        start = int(datetime.fromisoformat(since).timestamp()) if since else None
        text = client.logs(container_id, tail=tail, timestamps=True, since=start)
    parts = (line.partition(b" ") for line in text.split(b"\n") if line)
    return [(moment.decode("ascii", "replace"), line) for moment, _, line in parts]
