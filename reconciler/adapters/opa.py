"""OPA, asked over its socket: one question, one connection, one deadline."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import secrets
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from reconciler.adapters import clock
from reconciler.adapters.http_client import Failure, HttpError, Request, Response, Unix, fetch
from reconciler.adapters.state_dir import open_own
from reconciler.core.containers_policy import SOCKET
from reconciler.core.desired import Json, digest
from reconciler.core.errors import StateError
from reconciler.core.plan import OK, Outcome, Result
from reconciler.core.record import Verdict
from reconciler.formats.policy import ANSWER_MAX_BYTES, domains, read_answer, unknown

_TOKEN = re.compile(r"[0-9a-f]{64}")
_NOBODY = 65534
_READY_TIMEOUT_S = 1.0
"""Readiness is asked for in every cycle: one that hangs must not hold them up."""


class OpaPolicy:
    """The Policy port.

    `socket_for` gives the socket of a policy revision; `token` the secret OPA wants to see, read anew for each
    question. `owner` is who OPA's container runs as (user and group).
    """

    def __init__(
        self,
        socket_for: Callable[[str], Path],
        token: Callable[[], str],
        timeout_s: Callable[[], float] = lambda: 5.0,
        *,
        owner: tuple[int, int] | None = None,
        monotonic: Callable[[], float] = clock.monotonic,
    ) -> None:
        self._socket_for = socket_for
        self._token = token
        self._timeout_s = timeout_s
        self._proven: set[str] = set()
        self._owner = owner or container_user()
        self._monotonic = monotonic

    def prepare(self, revision: str) -> Result:
        """Make the folder for the socket of `revision`, OPA's own, and the token. Never raises."""
        try:
            self._token()
            folder = self._socket_for(revision).parent
            _ensure_folder(folder, 0o700)
            if os.geteuid() == 0:
                os.chown(folder, *self._owner, follow_symlinks=False)
        except StateError as error:
            return Result(Outcome.FAILED, str(error))
        except OSError as error:
            return Result(Outcome.FAILED, f"{error.filename}: {error.strerror}")
        return OK

    def ready(self, revision: str) -> tuple[bool, str]:
        """Whether every domain answers for `revision` and denies an empty question; else why not.

        Once all have, one of them is asked for all: what OPA loaded cannot change while it runs.
        """
        asked = domains()[:1] if revision in self._proven else domains()
        self._proven.discard(revision)
        for domain in asked:
            verdict = self._verdict(domain, {}, revision, min(self._timeout_s(), _READY_TIMEOUT_S))
            if not verdict.known:
                return False, verdict.reason
            if verdict.allow:
                return False, f"policy {domain} allows an empty question: it would allow anything"
        self._proven.add(revision)
        return True, ""

    def evaluate(self, domain: str, question: Mapping[str, Json], revision: str) -> Verdict:
        """Its answer; `known` false for whatever is not exactly an answer. Never raises."""
        return self._verdict(domain, question, revision, self._timeout_s())

    def _verdict(self, domain: str, question: Mapping[str, Json], revision: str, timeout_s: float) -> Verdict:
        """The answer to `question`, recognisable by its digest, which OPA sends back."""
        try:
            asked = digest(dict(question))
        except ValueError:
            return unknown(domain, "the question holds a number that is none")
        content: Json = {"input": {**question, "asked": asked}}
        try:
            response = self._post(f"/v1/data/swiftdeploy/{domain}/decision", content, revision, timeout_s)
        except HttpError as error:
            verdict = unknown(domain, _no_answer(error, timeout_s))
        except StateError as error:
            verdict = unknown(domain, str(error))
        else:
            verdict = read_answer(response.status, response.body, domain, revision, asked)
        return dataclasses.replace(verdict, input_digest=asked, decision_id=verdict.decision_id or str(uuid.uuid4()))

    def _post(self, path: str, content: Json, revision: str, timeout_s: float) -> Response:
        headers = (("Authorization", f"Bearer {self._token()}"), ("Content-Type", "application/json"))
        request = Request(path, "POST", "opa", headers, json.dumps(content, allow_nan=False).encode())
        server = Unix(self._socket_for(revision))
        return fetch(server, request, timeout_s, body_max_bytes=ANSWER_MAX_BYTES, monotonic=self._monotonic)


def _no_answer(error: HttpError, timeout_s: float) -> str:
    """Each way of failing in words of its own."""
    match error.failure:
        case Failure.REFUSED | Failure.UNREACHABLE:
            return f"OPA is not reachable: {error}"
        case Failure.TIMEOUT:
            return f"OPA did not answer within {timeout_s:g} s"
        case Failure.MALFORMED | Failure.TOO_LARGE:
            return f"OPA's answer cannot be used: {error}"


# --- what OPA shares with us -------------------------------------------------------------------------------


def container_user() -> tuple[int, int]:
    """Who OPA's container runs as: ourselves, so that the socket is ours to open; nobody where we are root."""
    return (os.geteuid(), os.getegid()) if os.geteuid() else (_NOBODY, _NOBODY)


def socket_path(run_dir: Path, revision: str) -> Path:
    """Where the container of `revision` listens, seen from the host."""
    return run_dir / "opa" / revision[:12] / SOCKET


def ensure_token(run_dir: Path) -> str:
    """The token OPA wants to see, made on the first call. Raises StateError.

    `opa-token` is ours alone (0600). OPA gets the token's digest, in `opa-auth/auth.json`: whoever reads that,
    or makes a policy tell it, can ask nothing.
    """
    try:
        _ensure_folder(run_dir / "opa-auth", 0o755)
        token = _kept_token(run_dir / "opa-token")
        _replace_if_other(run_dir / "opa-auth" / "auth.json", _auth_document(token), 0o644)
    except OSError as error:
        raise StateError(f"{error.filename or run_dir}: {error.strerror}") from error
    return token


def _ensure_folder(path: Path, mode: int) -> None:
    """The folder, with exactly this mode whatever the umask; a link in its place is an error."""
    path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def _kept_token(path: Path) -> str:
    """The token in the file, or a new one where it holds none; readable by its owner only, in both cases."""
    kept = _read(path).strip()
    token = kept if _TOKEN.fullmatch(kept) else secrets.token_hex(32)
    _replace_if_other(path, f"{token}\n", 0o600)
    return token


def _auth_document(token: str) -> str:
    return json.dumps({"swiftdeploy_auth": {"token_sha256": hashlib.sha256(token.encode()).hexdigest()}}) + "\n"


def _read(path: Path) -> str:
    """At most what a token needs, of a file that is ours; "" where there is none. Raises StateError for others."""
    try:
        descriptor = open_own(path, os.O_RDONLY)
    except FileNotFoundError:
        return ""
    with os.fdopen(descriptor, "rb") as file:
        return file.read(4096).decode("ascii", "replace")


def _replace_if_other(path: Path, content: str, mode: int) -> None:
    """The file with this content and mode, replaced in one step where it differs."""
    if _read(path) == content and (path.lstat().st_mode & 0o7777) == mode:
        return
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
