"""Connections to the Docker Engine, and what goes wrong with them.

Whatever docker-py and the libraries below it raise becomes an `EngineError` or a `Result` here and nowhere else.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import docker
import docker.errors
import requests
import urllib3
from docker.transport import UnixHTTPAdapter

from reconciler.adapters import docker_decode as decode
from reconciler.adapters.engine_guard import guarded
from reconciler.core.errors import EffectUnknown, EngineError
from reconciler.core.plan import Outcome, Result

DEFAULT_SOCKET = "unix:///var/run/docker.sock"

# What docker-py and the libraries below it raise for an engine that refuses, stalls, vanishes or babbles.
TROUBLE = (
    docker.errors.DockerException,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
)

Connect = Callable[[str, str, float], docker.APIClient]
Found = TypeVar("Found")


POOLS, POOLED = 4, 2
"""docker-py keeps a pool for each URL, 25 of them whatever it is told, and most of ours are asked once: each client
(there is one a thread) would hold up to 25 idle sockets of the engine's."""


def default_address(base_url: str | None) -> str:
    """The engine's address: as given, else $DOCKER_HOST, else the usual socket."""
    return base_url or os.environ.get("DOCKER_HOST") or DEFAULT_SOCKET


def connect_to(base_url: str, version: str, timeout_s: float) -> docker.APIClient:
    """One client; `version` "auto" asks the engine which API it speaks."""
    client = docker.APIClient(base_url=base_url, version=version, timeout=timeout_s)  # type: ignore[arg-type]
    if base_url.startswith("unix://"):
        patience: Any = timeout_s
        few = UnixHTTPAdapter(f"http+{base_url}", patience, pool_connections=POOLS, max_pool_size=POOLED)
        client.mount("http+docker://", few)
    # A proxy from the environment never leads to the engine, and looking for one costs more than a call.
    client.trust_env = False
    return guarded(client)


def or_none(ask: Callable[[], Found]) -> Found | None:
    """The answer, or None when the engine knows no such thing."""
    try:
        return ask()
    except docker.errors.NotFound:
        return None


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong with a call. `sent` is false when the engine cannot have acted; `status` 0 is no answer."""

    words: str
    sent: bool
    status: int = 0
    raw: str = ""

    @property
    def result(self) -> Result:
        """As the outcome of an act."""
        return Result(Outcome.UNKNOWN if self.sent and not self.status else Outcome.FAILED, self.words)

    @property
    def error(self) -> EngineError:
        """As the answer to a question."""
        if self.sent and not self.status:
            return EffectUnknown(self.words)
        return EngineError(self.words, retryable=self.status == 0 or self.status >= 500)


class Connections:
    """A client for each thread; the API version is negotiated once and again after a refusal.

    `timeout_s` bounds a question, `effect_timeout_s` an act: each read of an answer, not the whole of it.
    """

    def __init__(self, base_url: str, connect: Connect, timeout_s: float, effect_timeout_s: float) -> None:
        self.base_url = base_url
        self.effect_timeout_s = effect_timeout_s
        self._connect = connect
        self._timeout_s = timeout_s
        self._kept = threading.local()
        self._version = "auto"
        self._epoch = 0

    @property
    def is_local(self) -> bool:
        """Whether the engine is on this machine, so that its ports are ours too."""
        return self.base_url.startswith("unix://")

    def asking(self) -> docker.APIClient:
        """This thread's client, for a question."""
        return self._client(self._timeout_s)

    def acting(self) -> docker.APIClient:
        """This thread's client, for an act."""
        return self._client(self.effect_timeout_s)

    def fresh(self, timeout_s: float | None) -> docker.APIClient:
        """A client of one's own, for answers that go on for long; None waits for ever."""
        client = self._connect(self.base_url, self._version, timeout_s)  # type: ignore[arg-type]
        self._version = client.api_version
        return client

    def _client(self, timeout_s: float) -> docker.APIClient:
        if getattr(self._kept, "epoch", None) != self._epoch:
            self._kept.client, self._kept.epoch = self.fresh(self._timeout_s), self._epoch
        client: docker.APIClient = self._kept.client
        client.timeout = timeout_s  # type: ignore[assignment]
        return client

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Trouble with the engine leaves as EngineError."""
        try:
            yield
        except TROUBLE as trouble:
            raise self.noted(trouble).error from trouble

    def noted(self, trouble: Exception) -> Failure:
        """The trouble in words; after a refused API version every thread's next call negotiates anew."""
        failure = _failure(trouble, self.base_url)
        if "client version" in failure.raw:
            self._version, self._epoch = "auto", self._epoch + 1
        return failure


def _failure(trouble: Exception, where: str) -> Failure:
    if isinstance(trouble, docker.errors.APIError):
        said = str(trouble.explanation or trouble)
        return Failure(decode.meaning(said), sent=True, status=trouble.status_code or 500, raw=said)
    before_sending = _never_sent(trouble)
    if before_sending is not None:
        return Failure(_unreachable(before_sending, where), sent=False)
    if isinstance(trouble, requests.Timeout | TimeoutError | urllib3.exceptions.TimeoutError):
        return Failure("The engine did not answer in time; it may still do what was asked.", sent=True)
    if isinstance(trouble, ValueError | KeyError | TypeError) and not isinstance(trouble, requests.RequestException):
        return Failure(f"The engine's answer cannot be read ({type(trouble).__name__}).", sent=True)
    return Failure("The connection to the engine broke; it may still do what was asked.", sent=True)


def _never_sent(trouble: BaseException) -> BaseException | None:
    """The reason why no connection came about, or None when one did."""
    for cause in _causes(trouble):
        if isinstance(cause, FileNotFoundError | ConnectionRefusedError | PermissionError):
            return cause
    is_setting_up = isinstance(trouble, docker.errors.DockerException)
    return trouble if is_setting_up or isinstance(trouble, requests.ConnectTimeout) else None


def _causes(trouble: BaseException) -> Iterator[BaseException]:
    """An exception and all that it wraps: as cause, as context, or (urllib3's way) among its arguments."""
    pending, seen = [trouble], set[int]()
    while pending:
        current = pending.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        wrapped = (current.__cause__, current.__context__, getattr(current, "reason", None), *current.args)
        pending.extend(one for one in wrapped if isinstance(one, BaseException))


def _unreachable(reason: BaseException, where: str) -> str:
    path = where.removeprefix("unix://")
    if where == os.environ.get("DOCKER_HOST"):
        path = f"{path}, which the variable DOCKER_HOST names"
    if isinstance(reason, PermissionError):
        return f"Permission denied on {path}. Add this user to the group `docker` and sign in again, or run as root."
    if isinstance(reason, FileNotFoundError):
        return f"There is no {path}. Is the Docker Engine installed and running? (`systemctl start docker`)"
    if isinstance(reason, ConnectionRefusedError):
        return f"Nobody listens on {path}. Start the Docker Engine (`systemctl start docker`)."
    return f"The engine at {where} cannot be reached: {reason}"
