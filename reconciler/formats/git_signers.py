"""The list of SSH keys that may sign (`allowed_signers` of ssh-keygen(1)): which keys it names, and for what.

ssh-keygen judges; this only finds words for why it said no.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from reconciler.core.trust import Signature, Signed

MAX_BYTES = 1024 * 1024
_TYPE = re.compile(r"(?:ssh|ecdsa|sk)-[A-Za-z0-9@.-]+")


@dataclass(frozen=True, slots=True)
class Signer:
    """One line: a key's fingerprint, and whether it is bound to a time or to uses that git's is not among."""

    fingerprint: str
    has_times: bool
    is_for_git: bool
    is_authority: bool


def read(data: bytes) -> tuple[Signer, ...]:
    """The keys in `data`; lines that cannot be understood name none."""
    text = data[:MAX_BYTES].decode("utf-8", "replace")
    return tuple(found for line in text.splitlines() for found in _signer(line.strip()))


def _signer(line: str) -> Iterator[Signer]:
    if not line or line.startswith("#"):
        return
    words = list(_words(line))
    at = next((number for number, word in enumerate(words) if number and _TYPE.fullmatch(word)), None)
    if at is None or at + 1 >= len(words):
        return
    try:
        key = base64.b64decode(words[at + 1], validate=True)
    except (binascii.Error, ValueError):
        return
    options = [option for word in words[1:at] for option in _split(word)]
    uses = [option.partition("=")[2].strip('"') for option in options if option.lower().startswith("namespaces=")]
    yield Signer(
        _fingerprint(key),
        any(option.lower().startswith(("valid-after=", "valid-before=")) for option in options),
        all(_allows_git(use) for use in uses),
        any(option.lower() == "cert-authority" for option in options),
    )


def _fingerprint(key: bytes) -> str:
    return "SHA256:" + base64.b64encode(sha256(key).digest()).decode("ascii").rstrip("=")


def key_of(signature: bytes) -> str:
    """The fingerprint of the key that an armoured SSH signature says it is by; "" where it says nothing readable."""
    body = b"".join(line for line in signature.split(b"\n") if not line.startswith(b"-----"))
    try:
        data = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        return ""
    length = int.from_bytes(data[10:14], "big")
    if not data.startswith(b"SSHSIG\0\0\0\1") or not 0 < length <= len(data) - 14:
        return ""
    return _fingerprint(data[14 : 14 + length])


def _words(line: str) -> Iterator[str]:
    """Words between blanks; blanks within quotes belong to a word."""
    yield from re.findall(r'(?:"[^"]*"|[^\s"])+', line)


def _split(word: str) -> list[str]:
    return re.findall(r'(?:"[^"]*"|[^,"])+', word)


def _allows_git(patterns: str) -> bool:
    """As far as it matters for a message: whether one of the patterns fits `git`."""
    return any(re.fullmatch(re.escape(p).replace(r"\*", ".*").replace(r"\?", "."), "git") for p in patterns.split(","))


def explained(signature: Signature, key: str, signers: tuple[Signer, ...]) -> Signature:
    """`signature` with a better reason, where the answer was no though the list names its `key`."""
    if signature.scheme != "ssh" or signature.state not in (Signed.UNKNOWN_KEY, Signed.BAD) or not key:
        return signature
    mine = [signer for signer in signers if signer.fingerprint == key]
    if mine and not any(signer.is_for_git for signer in mine):
        state = Signed.OTHER_USE
    elif signature.state is Signed.UNKNOWN_KEY and any(signer.has_times and signer.is_for_git for signer in mine):
        state = Signed.KEY_EXPIRED
    else:
        state = signature.state
    return Signature(signature.commit, state, signature.by or key, signature.scheme)
