"""Listens for a git server's webhook: a hint to look at once, and nothing else can be said through it.

What a stranger can cost is bounded before anything is believed: connections at a time, requests a second, bytes, and
the time of a whole connection. Each connection carries one request. Nothing of a request is logged.
"""

from __future__ import annotations

import os
import stat
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import structlog

from reconciler.adapters.clock import monotonic
from reconciler.adapters.webhook_server import Bounds, Server, place_of
from reconciler.core.errors import StateError
from reconciler.formats import webhook
from reconciler.formats.daemon_config import WebhookConfig
from reconciler.formats.webhook import Reply

MAX_BODY_BYTES = 1024 * 1024


class WebhookListener:
    """Answers webhooks at the configured address, and says `hint(words)` at most once in `hint_every_s`.

    `ref` is what is followed (GitConfig.ref). A hint that comes too soon after another is not lost: it is said, once
    for all that came, when its time has come. `hint` is called from a thread of this listener, one at a time.
    """

    def __init__(self, config: WebhookConfig, ref: str, hint: Callable[[str], None], bounds: Bounds | None = None):
        self._config = config
        self._ref = ref
        self.bounds = bounds or Bounds()
        self._teller = _Teller(hint, self.bounds.hint_every_s)
        self._refusals = _Refusals(self.bounds.told_every_s)
        self._server: Server | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; 0 before `start`."""
        return self._server.server_address[1] if self._server else 0

    def start(self) -> None:
        """Listening when it returns. Raises StateError: no usable secret, or the address cannot be had."""
        read_secret(Path(self._config.secret_file))
        where = f"{self._config.host}:{self._config.port}"
        try:
            self._server = Server((self._config.host, self._config.port), self)
        except OSError as error:
            raise StateError(
                f"the webhook cannot listen on {where}: {error.strerror}. Change webhook.listen"
            ) from error
        self._teller.start()
        threading.Thread(target=self._server.serve_forever, args=(1.0,), name="webhook", daemon=True).start()

    def stop(self) -> None:
        """No more is answered. May be called twice; connections under way end with the process."""
        if self._server is not None:
            self._server.stop()
            self._server = None
            self._teller.stop()

    # --- the decisions, as the connections ask for them

    def before_body(self, method: str, path: str, headers: webhook.Headers) -> Reply | webhook.Claim:
        """What can be said without the body: a refusal, or what the request offers as proof."""
        if path.partition("?")[0] != self._config.path:
            return Reply(404, "there is nothing here")
        if method != "POST":
            return Reply(405, "use POST")
        lengths = headers.get("content-length", ())
        if "transfer-encoding" in headers or not lengths:
            return Reply(411, "say the body's length in Content-Length; chunked bodies are not read")
        if len(lengths) > 1 or not (lengths[0].isascii() and lengths[0].isdigit()):
            return Reply(400, "Content-Length is no number")
        if len(lengths[0]) > 12 or int(lengths[0]) > MAX_BODY_BYTES:
            return Reply(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
        return webhook.claim(headers, self._config.kind) or Reply(401, _NO_SIGNATURE)

    def judged(self, claim: webhook.Claim, headers: webhook.Headers, body: bytes) -> Reply:
        """The answer to a whole request."""
        try:
            secret = read_secret(Path(self._config.secret_file))
        except StateError as error:
            self._refusals.add(503, str(error))
            return Reply(503, "the secret cannot be read; the daemon's log says why")
        if not claim.holds(secret, body):
            return Reply(401, "the signature does not fit: another secret, or another body")
        reply = webhook.heard(headers, body, claim.kind, self._ref)
        if reply.hint:
            self._teller.tell(reply.hint)
        return reply

    def answered(self, reply: Reply) -> None:
        """For the log: refusals are told now and then, with their number."""
        if reply.status >= 400 and reply.status != 503:
            self._refusals.add(reply.status, reply.words)


_NO_SIGNATURE = "no usable signature: sign with SHA-256 and the secret, in the header that docs/config.md names"


def read_secret(path: Path) -> bytes:
    """The secret in the file at `path`. Raises StateError: not there, too short, or open to others."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise StateError(f"{path} is not a regular file. Write the webhook's secret into one")
            data = os.read(descriptor, 2 * webhook.MOST_SECRET)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StateError(f"the webhook's secret {path} cannot be read: {error.strerror}") from error
    if stat.S_IMODE(status.st_mode) & 0o007:
        raise StateError(f"{path} is open to every user of this host. `chmod 600 {path}`, and use a new secret")
    if trouble := webhook.secret_trouble(data):
        raise StateError(f"{path} {trouble}")
    return webhook.secret(data)


# --- what is said of requests


class _Teller:
    """Says the newest of what it is told, at most once in `every_s`, from its own thread."""

    def __init__(self, say: Callable[[str], None], every_s: float) -> None:
        self._say, self._every_s = say, every_s
        self._words: str | None = None
        self._changed = threading.Event()
        self._stopped = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="webhook-hints", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        self._changed.set()

    def tell(self, words: str) -> None:
        self._words = words
        self._changed.set()

    def _run(self) -> None:
        while True:
            self._changed.wait()
            if self._stopped.is_set():
                return
            self._changed.clear()
            try:
                self._say(self._words or "webhook")
            except Exception as error:  # noqa: BLE001 a hint that cannot be heard must not end those that follow
                structlog.get_logger().error("webhook.failed", error=place_of(error))
            self._stopped.wait(self._every_s)


class _Refusals:
    """Refused requests in the log: the first at once, those that follow as a number now and then."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._lock = threading.Lock()
        self._counts: Counter[int] = Counter()
        self._at: float | None = None

    def add(self, status: int, reason: str) -> None:
        with self._lock:
            self._counts[status] += 1
            now = monotonic()
            if self._at is not None and now - self._at < self._every_s:
                return
            counts, self._counts, self._at = dict(self._counts), Counter(), now
        structlog.get_logger().warning("webhook.refused", status=status, reason=reason, since_last=counts)
