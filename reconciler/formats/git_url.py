"""Addresses of repositories, and names in them, as they may reach git's command line.

Strict on purpose: what is not understood is refused with a word on what to write, and nothing that begins with `-`,
names a helper (`ext::`) or holds a credential ever gets further.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import quote

MAX_CHARS = 2048
MAX_PART = 255

_HOST = r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
_USER = r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9._-]{0,63})@)?"
_PORT = r"(?::(?P<port>[0-9]{1,5}))?"
_PATH = r"[A-Za-z0-9._~+@%=,/-]+"
_URL = re.compile(rf"(?P<scheme>https?|ssh|git)://{_USER}{_HOST}{_PORT}(?P<path>/{_PATH})", re.ASCII)
_SCP = re.compile(rf"{_USER}{_HOST}:(?P<path>[A-Za-z0-9._~/]{_PATH})", re.ASCII)
_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_PREFIX = re.compile(r"[0-9a-f]{7,64}")
_NOT_IN_REFS = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|^\.|\.lock(?:/|$)|\.$|/$|^/|^-|^@$")


@dataclass(frozen=True, slots=True)
class Remote:
    """A repository. `url` is for git, `shown` for people; `folder` is set where it is one on this host."""

    url: str
    shown: str
    scheme: str
    host: str = ""
    folder: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this host."""
        return self.folder is not None


def remote(text: str) -> Remote:
    """The repository that `text` names; ValueError says what is wrong with it, and never repeats a password."""
    if not text or len(text) > MAX_CHARS:
        raise ValueError(f"an address has 1 to {MAX_CHARS} characters")
    if "::" in text.partition("[")[0]:
        raise ValueError("an address that starts a helper (`name::…`) is never used. Use https://, ssh:// or a path")
    if text.startswith("/") or text.lower().startswith("file:"):
        return _local(text)
    if found := _URL.fullmatch(text):
        return _over_the_network(text, found)
    if re.match(r"[a-z+]+://[^/]*:[^/]*@", text, re.ASCII | re.IGNORECASE):
        raise ValueError("an address must not hold a password. Put it into a file, and name that with `token_file`")
    if "://" not in text and (found := _SCP.fullmatch(text)):
        return Remote(text, text, "ssh", found["host"])
    raise ValueError("this is no address of a repository. Use https://HOST/PATH, ssh://USER@HOST/PATH or /a/path")


def _over_the_network(text: str, found: re.Match[str]) -> Remote:
    scheme, host = found["scheme"], found["host"]
    if found["user"] and scheme != "ssh":
        raise ValueError("an address must not name a user. Use `username` and `token_file`")
    if found["port"] and not 0 < int(found["port"]) < 65536:
        raise ValueError(f"there is no port {found['port']}. Use 1 to 65535")
    if scheme in ("http", "git") and not _is_loopback(host):
        raise ValueError(f"{scheme}:// can be changed by anybody on the way. Use https:// or ssh://")
    return Remote(text, text, scheme, host)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _local(text: str) -> Remote:
    folder = text
    if not text.startswith("/"):
        if not text.startswith("file:///"):
            raise ValueError("a folder of this host is written /a/path or file:///a/path")
        folder = text.removeprefix("file://")
        if "%" in folder:
            raise ValueError("write the folder's path as it is, without %-signs: /a/path")
    if not folder.isprintable() or any(part in (".", "..") for part in folder.split("/")) or folder.strip("/") == "":
        raise ValueError("a folder of this host is written as a plain absolute path, without `.` and `..`")
    return Remote(f"file://{quote(folder, safe='/~+@=,')}", folder, "file", folder=folder)


def branch(text: str) -> str:
    """`text` where it can be the name of a branch or tag; ValueError otherwise."""
    if not text or len(text.encode("utf-8", "surrogatepass")) > MAX_PART or not text.isprintable():
        raise ValueError(f"a branch's or tag's name has 1 to {MAX_PART} bytes that can be seen")
    if _NOT_IN_REFS.search(text):
        raise ValueError("this cannot be the name of a branch or tag (`git check-ref-format` says why)")
    return text


def commit_id(text: str) -> str:
    """`text` where it is a full id, in small letters; ValueError otherwise."""
    if not _ID.fullmatch(text):
        raise ValueError("a commit is named by its full id: 40 (or 64) of 0-9 and a-f")
    return text


def prefix(text: str) -> str:
    """`text` where it can be the beginning of an id, seven characters or more; ValueError otherwise."""
    if not _PREFIX.fullmatch(text):
        raise ValueError("a commit is named by its id, or the first 7 or more characters of it (0-9 and a-f)")
    return text


def path(text: str) -> str:
    """`text` where it is a plain path below a repository's top; ValueError otherwise."""
    parts = text.split("/")
    if not text or len(text) > MAX_CHARS or not text.isprintable() or "\\" in text:
        raise ValueError(f"a path in the repository has 1 to {MAX_CHARS} characters that can be seen, and no backslash")
    if any(not is_plain_part(part) for part in parts):
        raise ValueError(
            "a path in the repository is written as deploy/manifest.yaml: no `.`, `..`, `.git`, `//`, or `/` at an end"
        )
    if text.startswith(("-", ":")):
        raise ValueError("a path in the repository must not begin with - or :")
    return text


def is_plain_part(part: str) -> bool:
    """Whether a name in a tree may be one in a folder of ours."""
    if part in ("", ".", "..") or part.lower() == ".git" or "/" in part or "\0" in part:
        return False
    return len(part.encode("utf-8", "surrogateescape")) <= MAX_PART
