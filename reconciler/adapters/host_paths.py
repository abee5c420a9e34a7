"""Whether a path of this host still is where it says: no symbolic link below the folder that was trusted.

The engine follows links in what it mounts, so `./data/x` is whatever a link of that name points at: the host's root,
if whoever can write into `./data` wants it so.
"""

from __future__ import annotations

import os
import stat


def link_below(path: str, base: str) -> str | None:
    """The first part of `path` below `base` that is a symbolic link, as a whole path; None where none is.

    What is not there, or may not be looked at, is no link. `path` equal to `base` has no part below it.
    """
    if path == base:
        return None
    here = base.rstrip("/")
    for name in os.path.relpath(path, base).split("/"):
        here = f"{here}/{name}"
        try:
            if stat.S_ISLNK(os.lstat(here).st_mode):
                return here
        except OSError:
            return None
    return None
