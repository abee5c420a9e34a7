"""uvicorn, taught to stop without losing a request.

From SIGTERM to the exit:
1. For a while (the linger) the listener stays open, and every answer says `Connection: close`: clients in conversation
   leave by themselves, each after an answer.
2. New handshakes are ignored, those begun are finished and accepted, the listener closes.
3. Connections that are silent between two requests are closed; one that is owed an answer gets it first.
4. Where there was traffic until the end, the process stays until whoever was ignored has been refused.

It leans on few names of uvicorn, all the same from 0.17 to 0.54: `startup`, `on_tick`, `shutdown`, `handle_exit`,
`servers`, `server_state`, and a connection's `transport`, `scope` and `cycle`.
"""

import asyncio
import fcntl
import select
import socket
import sys
import termios
from contextlib import suppress
from time import monotonic
from types import FrameType
from typing import Any

from events import EventLog
from service import Service
from settings import Mode, Settings
from uvicorn.config import Config
from uvicorn.server import Server

# Longer than a proxy keeps its idle connections (nginx: 60 s), so that the proxy is always the one that closes.
KEEP_ALIVE_S = 75
BACKLOG = 2048
# Enough for a handshake that has begun to finish, also where the kernel is late to look at its packets.
SETTLE_S = 0.05
# The first repetition of an ignored handshake comes after 1 s, and must find somebody to refuse it.
REFUSE_S = 1.2
# A connection that has not sent a whole request is given this long after the listener has closed.
NEWCOMER_S = 1.0
QUEUE_TURNS = 1000
# Nothing takes longer than a slow body; what is left after this is cut off.
FINISH_LIMIT_S = 30.0
POLL_S = 0.01

# Linux's numbers; Python has no names for them.
IP_MINTTL = 21
IPV6_MINHOPCOUNT = 73


def bind(host: str, port: int) -> socket.socket:
    """A bound socket; raises OSError."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


class WorkloadServer(Server):
    def __init__(self, service: Service, settings: Settings, events: EventLog) -> None:
        super().__init__(
            Config(
                service,
                interface="asgi3",
                loop="uvloop",
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_S,
                # Here, not in the service: uvicorn answers some requests (malformed ones) by itself.
                headers=[("X-Mode", "canary")] if settings.mode is Mode.CANARY else [],
            )
        )
        self._service = service
        self._settings = settings
        self._events = events
        self._common_headers: list[tuple[bytes, bytes]] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._common_headers[:] = self.config.encoded_headers
        self.server_state.default_headers = self._common_headers
        await super().startup(sockets)
        self._events.write(
            "service.started", mode=self._settings.mode, version=self._settings.version, port=self._settings.port
        )

    async def on_tick(self, counter: int) -> bool:
        """One list for all connections and always the same one: some versions of uvicorn look only once for it."""
        should_exit = await super().on_tick(counter)
        self._common_headers[:] = self.server_state.default_headers
        self.server_state.default_headers = self._common_headers
        return should_exit

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal stops gracefully, a second one at once; none is raised again, a clean stop exits with 0."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._events.write("service.stopping", connections=len(self.server_state.connections))
        self._service.begin_stopping()
        self._common_headers.append((b"connection", b"close"))
        answered_before = self.server_state.total_requests
        await asyncio.sleep(self._settings.shutdown_linger_ms / 1000)
        await self._close_listeners(sockets or [])
        closed_at_s = monotonic()
        await self._finish_connections()
        if self.server_state.total_requests > answered_before and not self.force_exit:
            await sleep_until(closed_at_s + REFUSE_S)
        self._events.write("service.stopped", cut_off=len(self.server_state.connections))

    async def _close_listeners(self, listeners: list[socket.socket]) -> None:
        for listener in listeners:
            ignore_new_handshakes(listener)
        await sleep_until(monotonic() + SETTLE_S)
        await empty_queues(listeners)
        for server in self.servers:
            server.close()
        for listener in listeners:
            listener.close()

    async def _finish_connections(self) -> None:
        for connection in self.server_state.connections:
            hear_again(connection.transport)
        began_at_s = monotonic()
        while self.server_state.connections or self.server_state.tasks:
            waited_s = monotonic() - began_at_s
            if self.force_exit or waited_s > FINISH_LIMIT_S:
                return
            for connection in list(self.server_state.connections):
                if is_silent(connection, patience_is_over=waited_s > NEWCOMER_S):
                    connection.transport.close()
            await asyncio.sleep(POLL_S)


async def sleep_until(moment_s: float) -> None:
    """Until then on the clock: the event loop's own time lags behind on a busy machine."""
    while monotonic() < moment_s:
        await asyncio.sleep(POLL_S)


async def empty_queues(listeners: list[socket.socket]) -> None:
    """Every connection made is accepted, however late this process got its turn on the processor.

    Counted in turns of the event loop, not in time: each accepts what there is, unless the descriptors have run out.
    """
    for _ in range(QUEUE_TURNS):
        if not select.select(listeners, [], [], 0)[0]:
            return
        await asyncio.sleep(0)


def is_silent(connection: Any, patience_is_over: bool) -> bool:
    """Whether no request is being answered and not a byte of another has come, not even one that nobody has read.

    Who has not asked for anything yet, or not to the end, counts as silent only when `patience_is_over`.
    """
    cycle = connection.cycle
    is_owed_an_answer = cycle is not None and not cycle.response_complete
    is_between_requests = cycle is not None and cycle.scope is connection.scope
    return (
        not is_owed_an_answer and (is_between_requests or patience_is_over) and unread_bytes(connection.transport) == 0
    )


def unread_bytes(transport: asyncio.Transport) -> int:
    """What the kernel has received on this connection and still holds; 0 when the connection is gone."""
    descriptor = transport.get_extra_info("socket").fileno()
    if descriptor < 0:
        return 0
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)


def ignore_new_handshakes(listener: socket.socket) -> None:
    """From now on the kernel drops what opens a connection, and still finishes what has been opened.

    Closing a listener resets the connections that wait in its queue, with the request in them. Once the queue can
    only drain there are none. Who is ignored asks again after a second and is refused by then, with nothing sent.
    The means is a least time to live that no packet of a neighbour has; packet filters would need privileges.
    """
    require_time_to_live(listener, 255)


def hear_again(transport: asyncio.Transport) -> None:
    """A connection accepted after its listener had become deaf has inherited that."""
    connection = transport.get_extra_info("socket")
    if connection.fileno() >= 0:
        with socket.fromfd(connection.fileno(), connection.family, connection.type) as same_connection:
            require_time_to_live(same_connection, 0)


def require_time_to_live(connection: socket.socket, hops: int) -> None:
    """Linux only; elsewhere, and where a sandbox has no such option, nothing happens."""
    with suppress(OSError):
        if sys.platform == "linux" and connection.family == socket.AF_INET6:
            connection.setsockopt(socket.IPPROTO_IPV6, IPV6_MINHOPCOUNT, hops)
        elif sys.platform == "linux":
            connection.setsockopt(socket.IPPROTO_IP, IP_MINTTL, hops)
