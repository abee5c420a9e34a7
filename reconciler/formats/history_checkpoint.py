"""Checkpoints: records in which a key vouches for every record before them.

What is signed is three lines of text, made from the checkpoint's own place in the chain, so no record can say one thing
and sign another:

    swiftdeploy-history-v1
    <seq of the record before>
    <hash of the record before>

The signature is OpenSSH's (`ssh-keygen -Y sign -n swiftdeploy-history`, Ed25519), on one line without its armour.
`docs/history.md` shows how to check one with `ssh-keygen` alone.
"""

from __future__ import annotations

import binascii
import struct
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256, sha512

from reconciler.core.desired import Json
from reconciler.formats.ed25519 import PublicKey
from reconciler.formats.history_chain import Link, parse

KIND = "checkpoint"
NAMESPACE = "swiftdeploy-history"
MAX_BAD_KEPT = 20
MAX_KEYS = 8  # to lay one out takes some hundredths of a second, and whoever forges a log chooses how many

_MARK = b'"kind":"checkpoint"'
_MAGIC = b"SSHSIG"
_KEY_TYPE = b"ssh-ed25519"


def statement(link: Link) -> bytes:
    """What is signed: that the log leads through `link`."""
    return f"swiftdeploy-history-v1\n{link.seq}\n{link.hash}\n".encode()


def checkpoint(reason: str, signature: str | None, unsigned: str = "") -> dict[str, Json]:
    """The record, but for its timestamp; without a signature `unsigned` says why there is none."""
    if signature is None:
        return {"kind": KIND, "reason": reason, "unsigned": unsigned}
    return {"kind": KIND, "reason": reason, "signature": signature}


def unarmoured(text: str) -> str:
    """An OpenSSH signature file on one line. ValueError for anything else."""
    first, *middle, last = text.strip().splitlines() or [""]
    if (first, last) != ("-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"):
        raise ValueError("not an SSH signature")
    return "".join(middle)


def key_of(signature: str) -> bytes:
    """The key that made a signature, as the signature says. ValueError where it is none of ours."""
    return _opened(_from_base64(signature), b"")[0]


def public_keys(text: str) -> frozenset[bytes]:
    """Every Ed25519 key in a file of public keys or of allowed signers. ValueError where a line has none."""
    found = set()
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if "ssh-ed25519" not in words[:-1]:
            raise ValueError(f"{line[:60]!r} is not a line with an ssh-ed25519 key")
        found.add(_key_of(_from_base64(words[words.index("ssh-ed25519") + 1])))
    return frozenset(found)


def public_line(key: bytes) -> str:
    """A key as OpenSSH writes it."""
    return f"ssh-ed25519 {b64encode(_blob(key)).decode()}"


def fingerprint(key: bytes) -> str:
    """What `ssh-keygen -l` calls the key."""
    return "SHA256:" + b64encode(sha256(_blob(key)).digest()).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class Signer:
    """What one key vouched for: `count` checkpoints, the records up to `last`."""

    key: bytes
    count: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Vouched:
    """The checkpoints of a log. `bad` are those whose signature does not hold, as (record, why), the first few."""

    signers: tuple[Signer, ...]
    unsigned: int
    unsigned_reason: str
    bad_count: int
    bad: tuple[tuple[int, str], ...]


class Notary:
    """Looks at the lines of a log as they pass, and judges the checkpoints among them."""

    def __init__(self) -> None:
        self._keys: set[bytes] = set()
        self._signers: dict[bytes, Signer] = {}
        self._unsigned, self._unsigned_reason = 0, ""
        self._bad_count = 0
        self._bad: list[tuple[int, str]] = []

    def passing(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """The same lines."""
        for line in lines:
            if _MARK in line:
                self._hear(line)
            yield line

    def vouched(self) -> Vouched:
        """Everything heard."""
        signers = tuple(sorted(self._signers.values(), key=lambda signer: signer.first))
        return Vouched(signers, self._unsigned, self._unsigned_reason, self._bad_count, tuple(self._bad))

    def _hear(self, line: bytes) -> None:
        record = parse(line)
        seq, prev = record.get("seq"), record.get("prev")
        if record.get("kind") != KIND or "odd" in record or not isinstance(seq, int) or not isinstance(prev, str):
            return
        signature = record.get("signature")
        if signature is None:
            self._unsigned += 1
            self._unsigned_reason = str(record.get("unsigned") or "no reason is given")
            return
        try:
            key = self._signed_by(str(signature), Link(seq - 1, prev))
        except ValueError as error:
            self._bad_count += 1
            if len(self._bad) < MAX_BAD_KEPT:
                self._bad.append((seq, str(error)))
            return
        known = self._signers.get(key, Signer(key, 0, seq - 1, seq - 1))
        self._signers[key] = replace(known, count=known.count + 1, last=max(known.last, seq - 1))

    def _signed_by(self, signature: str, link: Link) -> bytes:
        """The key that signed `link`. ValueError says why none did."""
        key, raw, signed = _opened(_from_base64(signature), statement(link))
        if key not in self._keys and len(self._keys) == MAX_KEYS:
            raise ValueError(f"it is by one more key than the {MAX_KEYS} that are looked at")
        self._keys.add(key)
        if not _laid_out(key).holds(raw, signed):
            raise ValueError("its signature is not of the records before it")
        return key


_laid_out = lru_cache(MAX_KEYS)(PublicKey)


# --- OpenSSH's forms: PROTOCOL.sshsig, RFC 8709 ---------------------------------------------------------------------


def _opened(blob: bytes, message: bytes) -> tuple[bytes, bytes, bytes]:
    """Key, raw signature, and the bytes it must be a signature of."""
    if not blob.startswith(_MAGIC + struct.pack(">I", 1)):
        raise ValueError("not an SSH signature, version 1")
    key, namespace, reserved, hash_name, signature = _strings(blob[10:], 5)
    if namespace != NAMESPACE.encode():
        raise ValueError(f"it is signed for {namespace[:40].decode('ascii', 'replace')!r}, not for {NAMESPACE!r}")
    if hash_name not in (b"sha512", b"sha256"):
        raise ValueError("it uses a hash that is not known here")
    kind, raw = _strings(signature, 2)
    if kind != _KEY_TYPE:
        raise ValueError("it is not an Ed25519 signature")
    digest = (sha512 if hash_name == b"sha512" else sha256)(message).digest()
    signed = _MAGIC + b"".join(map(_string, (namespace, reserved, hash_name, digest)))
    return _key_of(key), raw, signed


def _key_of(blob: bytes) -> bytes:
    kind, key = _strings(blob, 2)
    if kind != _KEY_TYPE or len(key) != 32:
        raise ValueError("it is not an Ed25519 key")
    return key


def _blob(key: bytes) -> bytes:
    return _string(_KEY_TYPE) + _string(key)


def _string(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def _strings(blob: bytes, count: int) -> list[bytes]:
    """Exactly `count` strings, each behind its length, and nothing else. ValueError otherwise."""
    found = []
    for _ in range(count):
        size = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + size:
            raise ValueError("it ends too early")
        found.append(blob[4 : 4 + size])
        blob = blob[4 + size :]
    if blob:
        raise ValueError("it goes on behind its end")
    return found


def _from_base64(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("it is not base64") from error
