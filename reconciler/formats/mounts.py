"""What a service may see of the host: named volumes, and folders below the manifest's own.

A bind's source is made absolute where that folder is known as a whole path, else it stays relative to it
(`./config`). What lies outside only passes when the host's allow list names it or a folder above it. What decides
or records is never handed to a service, by whichever path.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from reconciler.core.desired import Mount
from reconciler.formats.findings import Findings, shown_text
from reconciler.formats.yaml_strict import Node

LOG_PATH = "/var/log/app"
ALLOW_FILE = "/etc/swiftdeploy/allow.yaml"
"""Where the host says which of its paths a project may mount."""
_VOLUME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_ABSOLUTE = re.compile(r"(?=.{1,1024}\Z)/(?:(?!\.\.?(?:/|\Z))[A-Za-z0-9._@+=,-]{1,255}(?:/|\Z))*")
_RELATIVE = re.compile(r"(?=.{1,1024}\Z)(?:\./)?(?:(?!\.\.?(?:/|\Z))[A-Za-z0-9._@+=,-]{1,255}(?:/|\Z))+")
_TMPFS_OPTION = re.compile(
    r"size=[0-9]{1,12}[kmgKMG]?|mode=0?[0-7]{3,4}|uid=[0-9]{1,9}|gid=[0-9]{1,9}|ro|rw|noexec|exec|nosuid|nodev"
)
LinkBelow = Callable[[str, str], str | None]
_SOCKETS = frozenset({"/var/run/docker.sock", "/run/docker.sock"})
_OURS = ("state", ".git")
_OURS_TO_WRITE = ("policies",)
_NO_EFFECT = frozenset({"cached", "delegated", "consistent", "nocopy"})


@dataclass(frozen=True, slots=True)
class HostAllow:
    """The host's own permissions: by project, the absolute paths that it may mount.

    `trouble` says why there are none where the host's file is not believed; it has no full stop at its end.
    """

    paths: Mapping[str, frozenset[str]] = field(default_factory=dict)
    trouble: str = ""

    def of(self, project: str) -> frozenset[str]:
        """What this project may mount."""
        return self.paths.get(project, frozenset())


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What mounts are judged by: the project, the manifest's name, named volumes' real names, the allow list.

    `folder` is the manifest's where it is known as an absolute path, else empty. `allow_trouble` is HostAllow's.
    `link_below(path, base)` names the first symbolic link in `path` below `base`, the folder that was trusted.
    """

    project: str
    manifest: str
    folder: str
    volumes: Mapping[str, str]
    allow: frozenset[str]
    allow_trouble: str = ""
    link_below: LinkBelow = lambda _path, _base: None


@dataclass(frozen=True, slots=True)
class _Wanted:
    kind: str
    source: str
    target: str
    read_only: bool


def read_mounts(
    node: Node | None, around: Surroundings, findings: Findings
) -> tuple[tuple[Mount, ...], tuple[str, ...]]:
    """Mounts and tmpfs entries of `volumes`, in order."""
    mounts: list[Mount] = []
    tmpfs: list[str] = []
    for item in node.items if node else ():
        wanted = _long(item, findings) if item.mapping else _short(item, findings)
        if wanted is None:
            continue
        if not _ABSOLUTE.fullmatch(wanted.target) or wanted.target == "/":
            findings.problem(item, f"{item.path} mounts on {shown_text(wanted.target)}. Use an absolute path below /.")
        elif wanted.kind == "tmpfs":
            tmpfs.append(posixpath.normpath(wanted.target) + (":ro" if wanted.read_only else ""))
        elif wanted.kind == "volume":
            mounts += _volume(item, wanted, around, findings)
        else:
            mounts += _bind(item, wanted, around, findings)
            if _ABSOLUTE.fullmatch(wanted.source):
                around = replace(around, allow_trouble="")  # said with the first one that is refused
    return tuple(mounts), tuple(tmpfs)


def is_plain_path(text: str) -> bool:
    """It is absolute and as it is compared: no '.', '..', '//', nor '/' at the end, and no unusual characters."""
    return _ABSOLUTE.fullmatch(text) is not None and posixpath.normpath(text) == text


def read_tmpfs(node: Node | None, findings: Findings) -> tuple[str, ...]:
    """Paths with their options, as Docker takes them."""
    if node is None:
        return ()
    found = []
    for item in node.items or ([node] if isinstance(node.value, str) else []):
        path, _, options = str(item.value).partition(":")
        good = all(_TMPFS_OPTION.fullmatch(option) for option in options.split(",")) if options else True
        if not good or not _ABSOLUTE.fullmatch(path) or path == "/" or str(item.value).endswith(":"):
            findings.problem(item, f"{item.path} is {shown_text(str(item.value))}. Use a path such as /run:size=64m.")
            continue
        found.append(posixpath.normpath(path) + (f":{options}" if options else ""))
    return tuple(found)


def check_targets(node: Node, targets: Iterable[str], findings: Findings) -> None:
    """Nothing is mounted twice on one path, nor over the logs."""
    seen = {LOG_PATH}
    for target in targets:
        if target in seen:
            what = "is where the log volume is mounted" if target == LOG_PATH else "is mounted on twice"
            findings.problem(node, f"{node.path}: {target} {what}. Use another path.")
        seen.add(target)


def _short(item: Node, findings: Findings) -> _Wanted | None:
    """`source:target[:mode,…]`."""
    text = str(item.value)
    source, *rest = text.split(":")
    if not rest:
        findings.problem(
            item,
            f"{item.path} is {shown_text(text)}: a volume without a name would be new after every rollout. "
            "Write name:/path.",
        )
        return None
    target, modes = rest[0], rest[1].split(",") if len(rest) > 1 else []
    for mode in modes:
        if mode in _NO_EFFECT:
            findings.warning(item, f"{item.path}: {mode} has no effect.")
        elif mode not in ("ro", "rw"):
            findings.problem(item, f"{item.path}: {shown_text(mode)} is no mode of a mount here. Use ro or rw.")
            return None
    if len(rest) > 2:
        findings.problem(item, f"{item.path} is {shown_text(text)}. Use source:target or source:target:ro.")
        return None
    is_path = source[:1] in (".", "/", "~", "\\") or "/" in source
    return _Wanted("bind" if is_path else "volume", source, target, "ro" in modes)


def _long(item: Node, findings: Findings) -> _Wanted | None:
    kind, source, target, read_only = (item.at(key) for key in ("type", "source", "target", "read_only"))
    if kind is None or target is None:
        return None
    wanted = str(source.value) if source else ""
    if bool(wanted) == (kind.value == "tmpfs"):
        what = "has a source. A tmpfs has none" if wanted else "has no source. Add it"
        findings.problem(item, f"{item.path} {what}.")
        return None
    return _Wanted(str(kind.value), wanted, str(target.value), bool(read_only and read_only.value))


def _volume(item: Node, wanted: _Wanted, around: Surroundings, findings: Findings) -> list[Mount]:
    if not _VOLUME.fullmatch(wanted.source):
        findings.problem(
            item, f"{item.path}: {shown_text(wanted.source)} is no volume's name. Use letters, digits, . _ and -."
        )
        return []
    name = around.volumes.get(wanted.source, f"{around.project}_{wanted.source}")
    return [Mount("volume", name, posixpath.normpath(wanted.target), wanted.read_only)]


def _bind(item: Node, wanted: _Wanted, around: Surroundings, findings: Findings) -> list[Mount]:
    source = wanted.source
    if source.startswith("/"):
        refusal = _outside(source, wanted.read_only, around)
        normal = posixpath.normpath("/" + source.lstrip("/"))
    else:
        refusal = _inside(source, wanted.read_only, around.manifest)
        normal = posixpath.join(around.folder or ".", posixpath.normpath(source))
    trusted = nearest(normal, {around.folder, *plain(around.allow)})
    if not refusal and trusted and (link := around.link_below(normal, trusted)):
        refusal = through_link(link)
    if refusal:
        findings.problem(item, f"{item.path}: {shown_text(source)} {refusal}.")
        return []
    return [Mount("bind", normal, posixpath.normpath(wanted.target), wanted.read_only)]


def plain(allow: Iterable[str]) -> frozenset[str]:
    """The whole paths of an allow list, as they are compared."""
    return frozenset(posixpath.normpath(entry) for entry in allow if entry.startswith("/"))


def nearest(path: str, bases: Iterable[str]) -> str | None:
    """The longest of `bases` that is `path` or a folder above it; None where none is."""
    return max((base for base in bases if path == base or _is_below(path, base)), key=len, default=None)


def through_link(link: str) -> str:
    """Why a source with the symbolic link `link` in it is refused."""
    shown = link if is_plain_path(link) else shown_text(link)
    return (
        f"passes through the symbolic link {shown}, and the engine would mount whatever that points at. "
        f"Put the folder itself there, or let the host's {ALLOW_FILE} permit where it points"
    )


def _outside(source: str, read_only: bool, around: Surroundings) -> str:
    """Why an absolute source is refused, or an empty text."""
    if not _ABSOLUTE.fullmatch(source):
        return "is no plain absolute path. Write it without '//', '.' and '..'"
    path = posixpath.normpath(source)
    allowed = plain(around.allow)
    if path not in allowed and (path in _SOCKETS or not any(_is_below(path, entry) for entry in allowed)):
        what = "is the container engine itself" if path in _SOCKETS else "lies outside the manifest's folder"
        advice = f"{what}. Use a folder beside the manifest, or let the host's {ALLOW_FILE} permit it"
        return f"{advice}. That file permits nothing now: {around.allow_trouble}" if around.allow_trouble else advice
    if not allowed & _SOCKETS and any(_is_below(socket, path) for socket in _SOCKETS):
        return f"holds the container engine's socket, which {ALLOW_FILE} does not name. Mount a folder below it"
    return _by_whole_path(path, read_only, around)


def _by_whole_path(path: str, read_only: bool, around: Surroundings) -> str:
    """Why a permitted path is refused nevertheless: what is ours stays ours when its whole path is written."""
    if not around.folder:
        return ""
    if path == around.folder or _is_below(around.folder, path):
        return "holds the manifest's own folder, by which SwiftDeploy decides. Mount a folder below that one"
    if _is_below(path, around.folder):
        return _inside(posixpath.relpath(path, around.folder), read_only, around.manifest)
    return ""


def _inside(source: str, read_only: bool, manifest: str) -> str:
    """Why a relative source is refused, or an empty text."""
    if not _RELATIVE.fullmatch(source):
        return "does not stay below the manifest's folder. Use a path such as ./config"
    first = posixpath.normpath(source).split("/")[0].lower()
    if first in _OURS:
        return "holds what SwiftDeploy decides by. A service must not see it"
    if not read_only and (first in _OURS_TO_WRITE or first == posixpath.basename(manifest).lower()):
        return "holds what SwiftDeploy decides by. Mount it read-only, with :ro"
    return ""


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")
