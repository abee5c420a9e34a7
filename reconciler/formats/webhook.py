"""A git server's webhook: who signed it, whether that holds, and which ref it names. It is a hint to look, no more.

What a request says is read only once its signature held, and even then it only decides whether looking is worth it.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias
from urllib.parse import parse_qs

LEAST_SECRET = 16
MOST_SECRET = 1024
_DIGITS = 64
_LONGEST = 120

Headers: TypeAlias = Mapping[str, Sequence[str]]
"""Every value that was sent, by the header's name in small letters."""


class HookKind(StrEnum):
    """Whose requests are understood; AUTO tells by their headers."""

    AUTO = "auto"
    GITHUB = "github"
    GITLAB = "gitlab"
    GITEA = "gitea"
    GENERIC = "generic"


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request: HTTP's status and words. `hint` is what to say of it when it is worth looking."""

    status: int
    words: str
    hint: str = ""

    def body(self) -> bytes:
        """As JSON. Nothing of the request is in it."""
        return json.dumps({"status": _STATUS.get(self.status, "refused"), "detail": self.words}).encode() + b"\n"


_STATUS = {202: "accepted"}


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request offers to prove that it knows the secret: a digest of its body, or the secret itself."""

    kind: HookKind
    digest: bytes = b""
    token: bytes = b""

    def holds(self, secret: bytes, body: bytes) -> bool:
        """Whether it does, in a time that does not tell how much of it was right. An empty secret proves nothing."""
        if not secret:
            return False
        if self.kind is HookKind.GITLAB:
            return hmac.compare_digest(self.token, secret)
        return hmac.compare_digest(self.digest, hmac.digest(secret, body, "sha256").hex().encode())


# --- before the body is read


_SIGNATURES: Mapping[HookKind, tuple[str, ...]] = {
    HookKind.GITHUB: ("x-hub-signature-256",),
    HookKind.GITLAB: ("x-gitlab-token",),
    HookKind.GITEA: ("x-forgejo-signature", "x-gitea-signature", "x-gogs-signature", "x-hub-signature-256"),
    HookKind.GENERIC: ("x-hub-signature-256", "x-signature"),
}
_EVENTS: Mapping[HookKind, tuple[str, ...]] = {
    HookKind.GITHUB: ("x-github-event",),
    HookKind.GITLAB: ("x-gitlab-event",),
    HookKind.GITEA: ("x-forgejo-event", "x-gitea-event", "x-gogs-event", "x-github-event"),
    HookKind.GENERIC: (),
}


def claim(headers: Headers, kind: HookKind = HookKind.AUTO) -> Claim | None:
    """What the headers offer as proof; None where that is nothing of use: no signature, two, or not SHA-256."""
    kind = _kind(headers) if kind is HookKind.AUTO else kind
    name = next((name for name in _SIGNATURES[kind] if name in headers), None)
    if name is None or len(headers[name]) != 1:
        return None
    given = headers[name][0].strip()
    if kind is HookKind.GITLAB:
        token = given.encode("latin-1", "replace")
        return Claim(kind, token=token) if token else None
    has_algorithm = given.startswith("sha256=")
    if name == "x-hub-signature-256" and not has_algorithm:
        return None
    digest = given.removeprefix("sha256=").lower()
    is_digest = len(digest) == _DIGITS and set(digest) <= set("0123456789abcdef")
    return Claim(kind, digest=digest.encode()) if is_digest else None


def _kind(headers: Headers) -> HookKind:
    for kind in (HookKind.GITEA, HookKind.GITHUB, HookKind.GITLAB):
        own = (*_EVENTS[kind], *_SIGNATURES[kind])
        if any(name in headers for name in own if _is_of(name, kind)):
            return kind
    return HookKind.GENERIC


def _is_of(name: str, kind: HookKind) -> bool:
    """Whether only this kind of server sends the header: Gitea also sends GitHub's."""
    return "-hub-" not in name and (kind is not HookKind.GITEA or "github" not in name)


# --- once the signature held


def heard(headers: Headers, body: bytes, kind: HookKind, ref: str) -> Reply:
    """The answer to a request whose signature held; its `hint` is empty where looking would find nothing new.

    `ref` is what is followed: `refs/heads/…`, `refs/tags/…`; anything else, such as a pinned commit, is never named by
    a webhook, so that each is worth a look. What is not understood is worth a look too: to look costs little.
    """
    event = next((headers[name][0] for name in _EVENTS[kind] if headers.get(name)), "push").strip().lower()
    if "ping" in event:
        return Reply(202, "heard: a ping; nothing to look for")
    if not any(word in event for word in ("push", "create", "delete", "system")):
        return Reply(202, "ignored: this event changes no branch and no tag")
    payload = _payload(headers, body)
    named = _ref(payload)
    if ref.startswith("refs/") and named and named not in (ref, ref.split("/", 2)[2]):
        return Reply(202, "ignored: another branch or tag is followed")
    told = (f"{kind} webhook", _plain(named), _plain(_repository(payload)))
    return Reply(202, "heard: looking now", ", ".join(filter(None, told)))


def _payload(headers: Headers, body: bytes) -> Mapping[str, object]:
    """The body's JSON object, also out of a form's field; empty where it is none."""
    try:
        if "urlencoded" in "".join(headers.get("content-type", ())).lower():
            fields = parse_qs(body.decode(), max_num_fields=10, encoding="utf-8", errors="replace")
            body = fields.get("payload", [""])[0].encode()
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _ref(payload: Mapping[str, object]) -> str:
    found = payload.get("ref")
    return found if isinstance(found, str) else ""


def _repository(payload: Mapping[str, object]) -> str:
    """What the payload calls the repository, as each kind of server spells it."""
    for block in ("repository", "project"):
        about = payload.get(block)
        for key in ("full_name", "path_with_namespace", "name"):
            name = about.get(key) if isinstance(about, dict) else None
            if isinstance(name, str) and name:
                return name
    return ""


def _plain(text: str) -> str:
    """`text` cut, and without anything but plain letters: it stands in logs and in the history."""
    cut = text[:_LONGEST]
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in cut)


# --- the secret


def secret_trouble(data: bytes) -> str:
    """What is wrong with the bytes of the secret's file; an empty text where nothing is."""
    length = len(secret(data))
    if length < LEAST_SECRET:
        return f"holds a secret of {length} characters. Use {LEAST_SECRET} or more: `openssl rand -hex 32`"
    if length > MOST_SECRET or b"\n" in secret(data):
        return f"holds more than one line, or more than {MOST_SECRET} characters. Write the secret alone into it"
    return ""


def secret(data: bytes) -> bytes:
    """The secret in a file's bytes: without the line's end."""
    return data.removesuffix(b"\n").removesuffix(b"\r")
