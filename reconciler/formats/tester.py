"""The tester's secret: what it may be, what stands for it in files that anybody may read, and how nginx learns it.

A client that sends the secret in `X-Canary-Secret` may choose a side with `X-Canary: always` or `never`. The secret is
in two places only: the operator's file, and a file that nginx includes, whose name says which secret it holds.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

FOLDER = "secrets"
"""Where `file:NAME` is looked for, beside the manifest."""

MAPS = "testers"
"""The folder of the files that nginx includes, in the one that it mounts."""

SHORTEST, LONGEST = 16, 256
HOW_TO_MAKE = "openssl rand -hex 32"

_SECRET = re.compile(rf"[A-Za-z0-9._+/=-]{{{SHORTEST},{LONGEST}}}")
_INCLUDED = re.compile(rf"include /[A-Za-z0-9._/-]*/{MAPS}/([A-Za-z0-9][A-Za-z0-9_.-]*[.]([0-9a-f]{{16}})[.]map);")
_SCRYPT = {"n": 2**14, "r": 8, "p": 1, "dklen": 8}


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A secret's file as it was found: its text, or else in `trouble` why there is none to be had.

    `remedy` is what to do about it where that is not to make a new secret.
    """

    text: str = ""
    trouble: str = ""
    remedy: str = ""

    def __repr__(self) -> str:
        return f"SecretFile(trouble={self.trouble!r})"


def secret_of(text: str) -> str:
    """The secret in a file's text: one line, with or without its end."""
    return text.removesuffix("\n").removesuffix("\r")


def complaint(secret: str) -> str:
    """What is wrong with a secret, "" for nothing; never shows it."""
    if not secret:
        return "is empty"
    if not SHORTEST <= len(secret) <= LONGEST:
        return f"holds {len(secret)} characters, not {SHORTEST} to {LONGEST}"
    if _SECRET.fullmatch(secret) is None:
        return "holds other characters than letters, digits and . _ + / = -"
    return ""


def digest(service: str, secret: str) -> str:
    """What stands for the secret where others may read it: 16 hex digits of scrypt (RFC 7914), salted by the service.

    Slow on purpose (some 50 ms), so that a secret that somebody thought up is not found by trying words.
    """
    salt = f"swiftdeploy tester {service}".encode()
    return hashlib.scrypt(secret.encode(), salt=salt, **_SCRYPT).hex()


def map_name(service: str, digest: str) -> str:
    """The included file's name. Another secret is another file, so a configuration always finds the one it means."""
    return f"{service}.{digest}.map"


def included(config: str) -> dict[str, str]:
    """The digests of the secrets that a configuration includes, by the names of their files."""
    return dict(_INCLUDED.findall(config))


def map_text(secret: str | None) -> str:
    """The included file: lines of a `map` that give 1 for exactly this secret; None is a secret that nobody has."""
    if secret is None:
        return "# The secret is not at hand: nobody is a tester.\n"
    if complaint(secret):
        raise ValueError("not a secret that passed its check")
    exact = re.sub(r"[.+]", r"[\g<0>]", secret)  # as a regular expression, since nginx ignores the case of plain keys
    return f'"~^{exact}$" 1;\n'
