"""What kind of file system a folder is on, and what that means for a state directory."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

MOUNTS = Path("/proc/self/mountinfo")

IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
ON_A_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "coda", "davfs", "glusterfs", "lustre", "ncpfs"}
)
_OCTAL = re.compile(r"\\([0-7]{3})")


def doubt(kind: str) -> str:
    """Why a state directory on a file system of this kind is not safe, and what to do; "" where it is, or is not known.

    `kind` is as the kernel names it, `nfs4` or `fuse.sshfs`.
    """
    if kind in IN_MEMORY:
        return f"is in memory ({kind}): a reboot takes state and history away. Use a folder on a disk."
    if kind in ON_A_NETWORK:
        return (
            f"is on a network file system ({kind}): its locks and fsync are not to be trusted. "
            "Use a folder on a disk of this machine."
        )
    if kind == "fuse" or kind.startswith("fuse."):
        return (
            f"is on a file system that a program makes up ({kind}): its locks and fsync are not to be trusted. "
            "Use a folder on a disk of this machine."
        )
    return ""


def kind_in(mountinfo: str, path: str) -> str:
    """The kind of file system that the absolute `path` is on, by the text of /proc/self/mountinfo; "" if not told.

    It is that of the longest mount point, and of several there the last one, which covers the others.
    """
    depth, kind = 0, ""
    place = PurePosixPath(path)
    for line in mountinfo.split("\n"):
        mount, _, system = line.partition(" - ")
        fields = mount.split(" ")
        if len(fields) < 6 or not system:
            continue
        point = PurePosixPath(_OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[4]))
        if place.is_relative_to(point) and len(point.parts) >= depth:
            depth, kind = len(point.parts), system.split(" ")[0]
    return kind


def kind_of(path: Path, mounts: Path = MOUNTS) -> str:
    """The kind of file system that `path` is on, or will be once it is made; "" where the kernel does not tell."""
    try:
        return kind_in(mounts.read_text(encoding="utf-8", errors="surrogateescape"), str(path.resolve()))
    except (OSError, RuntimeError):
        return ""
