"""The service as an ASGI application: what is answered, what chaos does to it, and what is counted."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from time import monotonic
from typing import Any, NamedTuple

from chaos import Calm, Chaos, Error, NotChaos, NotJson, Slow, parse_chaos
from events import EventLog, timestamp
from metrics import Metrics
from settings import Mode, Settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

WORK_BODY_LIMIT_BYTES = 1024 * 1024
CHAOS_BODY_LIMIT_BYTES = 4 * 1024
BODY_TIMEOUT_S = 5.0


class Request(NamedTuple):
    """`content` is the start of the body, as much as a body of /chaos may have; nobody reads more, only counts it."""

    method: str
    path: str
    headers: list[Header]
    body_bytes: int
    content: bytes


class Response(NamedTuple):
    status: int
    body: bytes = b""
    headers: tuple[Header, ...] = ((b"content-type", b"application/json"),)


Routes = Mapping[str, Mapping[str, Callable[[Request], Response]]]


class Refused(Exception):
    """The request gets `response` in place of the answer it asked for."""

    def __init__(self, response: Response) -> None:
        self.response = response


class Service:
    """Requests are either work, or about the service: /healthz, /metrics and /chaos.

    Chaos strikes work only, else it could be neither seen nor undone. Only work is recorded in the metrics, else a
    probe each second would pass for healthy traffic.
    """

    def __init__(self, settings: Settings, events: EventLog) -> None:
        self._mode = settings.mode
        self._version = settings.version
        self._events = events
        self._metrics = Metrics()
        self._started_at_s = monotonic()
        self._chaos: Chaos = Calm()
        self._chaos_ended = asyncio.Event()
        self._is_stopping = False
        self._work: Routes = {
            "/": {"GET": self._welcome, "HEAD": self._welcome, "POST": self._receipt},
        }
        self._about: Routes = {
            "/healthz": {"GET": self._health, "HEAD": self._health},
            "/metrics": {"GET": self._exposition, "HEAD": self._exposition},
            "/chaos": {"POST": self._change_chaos},
        }

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"] in self._about:
            await respond(send, await self._answer_about(scope, receive))
            return
        began_at_s = monotonic()
        status = 500
        try:
            response = await self._answer_work(scope, receive)
            await respond(send, response)
            status = response.status
        finally:
            self._metrics.record(scope["method"], scope["path"], status, monotonic() - began_at_s)

    def begin_stopping(self) -> None:
        """From now on health says so and chaos delays nothing: whoever is being held back is answered at once."""
        self._is_stopping = True
        self._chaos_ended.set()

    async def _answer_work(self, scope: Message, receive: Receive) -> Response:
        try:
            request = await read_request(scope, receive, WORK_BODY_LIMIT_BYTES)
            await self._strike(receive)
        except Refused as refused:
            return refused.response
        return route(self._work, request)

    async def _answer_about(self, scope: Message, receive: Receive) -> Response:
        if scope["path"] == "/chaos" and self._mode is Mode.STABLE:
            return CHAOS_FORBIDDEN
        try:
            request = await read_request(scope, receive, CHAOS_BODY_LIMIT_BYTES)
        except Refused as refused:
            return refused.response
        return route(self._about, request)

    async def _strike(self, receive: Receive) -> None:
        match self._chaos:
            case Slow(duration_s) if not self._is_stopping:
                await self._hold_back(duration_s, receive)
            case Error(rate) if random.random() < rate:
                raise Refused(INJECTED_ERROR)

    async def _hold_back(self, duration_s: float, receive: Receive) -> None:
        """Wait until the time is over, the chaos is, or the client has left: its request must not pile up here."""
        client_left = asyncio.ensure_future(receive())
        chaos_ended = asyncio.ensure_future(self._chaos_ended.wait())
        done, pending = await asyncio.wait(
            (client_left, chaos_ended), timeout=duration_s, return_when=asyncio.FIRST_COMPLETED
        )
        for waiting in pending:
            waiting.cancel()
        if client_left in done:
            raise Refused(CLIENT_LEFT)

    def _welcome(self, request: Request) -> Response:
        return answer(
            {
                "message": "Welcome to the SwiftDeploy sample service.",
                "mode": self._mode,
                "version": self._version,
                "timestamp": timestamp(),
            }
        )

    def _receipt(self, request: Request) -> Response:
        return answer(
            {
                "message": "Received.",
                "bytes": request.body_bytes,
                "mode": self._mode,
                "version": self._version,
                "timestamp": timestamp(),
            }
        )

    def _health(self, request: Request) -> Response:
        health = {
            "status": "stopping" if self._is_stopping else "ok",
            "uptime_seconds": round(self._uptime_s(), 3),
            "mode": self._mode,
            "version": self._version,
        }
        return answer(health, status=503 if self._is_stopping else 200)

    def _exposition(self, request: Request) -> Response:
        page = self._metrics.exposition(self._uptime_s(), self._mode is Mode.CANARY, self._chaos.code)
        return Response(200, page.encode(), ((b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),))

    def _change_chaos(self, request: Request) -> Response:
        if not is_json(request.headers):
            return problem(415, "The body must be application/json.")
        try:
            chaos = parse_chaos(request.content)
        except NotJson as wrong:
            return problem(400, str(wrong))
        except NotChaos as wrong:
            return problem(422, str(wrong))
        if chaos != self._chaos:
            self._replace_chaos(chaos)
        return answer({"chaos": chaos.describe()})

    def _replace_chaos(self, chaos: Chaos) -> None:
        """The new chaos holds from the next request on; whoever the old one held back goes free."""
        self._chaos = chaos
        self._chaos_ended.set()
        self._chaos_ended = asyncio.Event()
        self._events.write("chaos.changed", chaos=chaos.describe(), mode=self._mode, version=self._version)

    def _uptime_s(self) -> float:
        return monotonic() - self._started_at_s


async def read_request(scope: Message, receive: Receive, limit_bytes: int) -> Request:
    """The request with its body read to the end, so that closing after the answer cuts nothing off.

    Raises Refused when the body is longer than `limit_bytes`, slower than BODY_TIMEOUT_S, or its client leaves.
    """
    body_bytes, content = 0, b""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            is_complete = False
            while not is_complete:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(CLIENT_LEFT)
                body_bytes += len(message["body"])
                if body_bytes > limit_bytes:
                    raise Refused(problem(413, f"The body is longer than {limit_bytes} bytes."))
                if body_bytes <= CHAOS_BODY_LIMIT_BYTES:
                    content += message["body"]
                is_complete = not message["more_body"]
    except TimeoutError:
        raise Refused(BODY_TOO_SLOW) from None
    return Request(scope["method"], scope["path"], scope["headers"], body_bytes, content)


def route(routes: Routes, request: Request) -> Response:
    answers = routes.get(request.path)
    if answers is None:
        return problem(404, "There is nothing at this path.")
    if request.method in answers:
        return answers[request.method](request)
    allowed = ", ".join((*answers, "OPTIONS"))
    allow: Header = (b"allow", allowed.encode())
    if request.method == "OPTIONS":
        return Response(204, headers=(allow,))
    return problem(405, f"Use {allowed}.", allow)


async def respond(send: Send, response: Response) -> None:
    headers = [*response.headers]
    if response.status != 204:
        headers.append((b"content-length", b"%d" % len(response.body)))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


def is_json(headers: list[Header]) -> bool:
    """Whether the sender means JSON.

    `curl -d` says application/x-www-form-urlencoded whatever it sends, and some clients say nothing: both may pass.
    """
    content_type = dict(headers).get(b"content-type", b"").split(b";")[0].strip().lower()
    return content_type in (b"", b"application/json", b"application/x-www-form-urlencoded")


def answer(content: Mapping[str, object], status: int = 200) -> Response:
    return Response(status, to_json(content))


def problem(status: int, message: str, *headers: Header) -> Response:
    content = to_json({"error": REASONS[status], "message": message})
    return Response(status, content, ((b"content-type", b"application/json"), *headers))


def to_json(content: Mapping[str, object]) -> bytes:
    return (json.dumps(content) + "\n").encode()


REASONS = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    500: "Internal Server Error",
}
CHAOS_FORBIDDEN = problem(403, "Chaos is for canary mode only.")
BODY_TOO_SLOW = problem(408, f"The body did not arrive within {BODY_TIMEOUT_S:g} seconds.", (b"connection", b"close"))
INJECTED_ERROR = problem(500, "Injected by chaos mode error.")
# Never sent: the status under which nginx's users know a client that did not wait.
CLIENT_LEFT = Response(499)
