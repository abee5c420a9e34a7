"""The rendered files: written where their bytes differ."""

from __future__ import annotations

import hashlib

from reconciler.core.plan import WriteFile
from reconciler.core.planner.draft import Draft
from reconciler.core.planner.wish import PROXY_CONFIG


def sha256(text: str) -> str:
    """SHA-256 (hex) of `text` as it is written to disk."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def plan_files(draft: Draft) -> None:
    """Every rendered file but nginx's own configuration, which goes through `nginx -t` first."""
    for path, text in sorted(draft.wish.files.items()):
        if path != PROXY_CONFIG:
            write(draft, path, text)


def is_written(draft: Draft, path: str, text: str) -> bool:
    """The bytes at `path` are those of `text`."""
    return draft.observed.files.get(path) == sha256(text)


def write(draft: Draft, path: str, text: str, *after: int | None) -> int | None:
    """Write `path` if its bytes differ from `text`."""
    if is_written(draft, path, text):
        return None
    cause = "not as rendered" if path in draft.observed.files else "missing"
    return draft.add(WriteFile(path, text), path, cause, *after)
