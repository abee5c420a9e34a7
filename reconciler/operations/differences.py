"""The files that a plan would write, each as a difference to what is there now."""

from __future__ import annotations

import difflib
import secrets
from pathlib import Path, PurePosixPath

from reconciler.core.desired import Json
from reconciler.core.plan import WriteFile
from reconciler.core.record import Cycle
from reconciler.formats.redaction import Marks, without_values
from reconciler.formats.rendered import COMPOSE_FILE

POLICIES = "opa"
"""Where policies are among the rendered files: in a folder for each revision of them."""


def file_diffs(cycle: Cycle, rendered: Path) -> dict[str, Json]:
    """Path to unified difference, for each file that `cycle` would write below `rendered`.

    A new policy revision is compared with the one that is there; "" is a file that it takes over as it is. Values of
    the environment are left out.
    """
    marks = Marks(secrets.token_bytes(16))
    found: dict[str, Json] = {}
    for step in cycle.plan.steps:
        if isinstance(step.action, WriteFile):
            path, after = step.action.path, step.action.content
            now = _now(rendered, path)
            before = _text(rendered / now)
            if path == COMPOSE_FILE:
                before, after = without_values(before, marks), without_values(after, marks)
            lines = difflib.unified_diff(
                before.splitlines(), after.splitlines(), f"now/{now}", f"then/{path}", lineterm=""
            )
            found[path] = "\n".join(lines)
    return found


def _now(rendered: Path, path: str) -> str:
    """Which file there is at `path` now; for one of a new policy revision, the same one of the revision before."""
    folder, *rest = PurePosixPath(path).parts
    if folder != POLICIES or len(rest) < 2 or (rendered / path).exists():
        return path
    before = _newest_policy(rendered / POLICIES, rest[0])
    kept = str(PurePosixPath(folder, before, *rest[1:]))
    return kept if before and (rendered / kept).exists() else path


def _newest_policy(folder: Path, wanted: str) -> str:
    """The policy revision that was written last, but for `wanted`; "" where there is none."""
    try:
        found = [(each.stat().st_mtime_ns, each.name) for each in folder.iterdir() if each.name != wanted]
    except OSError:
        return ""
    return max(found, default=(0, ""))[1]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
