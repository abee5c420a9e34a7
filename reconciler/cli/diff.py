"""`diff`: what deploy would do, and which files it would write."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from reconciler.cli.answers import conclude, say_json, value_of
from reconciler.cli.options import Options
from reconciler.cli.session import Session
from reconciler.cli.terminal import Paint, say, text_of, wants_colour
from reconciler.log import visible

HEADING = 3
"""Lines of a difference before its first change: two names and a place."""


def run(arguments: Namespace, options: Options, session: Session) -> int:
    end = value_of(session.request("diff", {"commit": arguments.commit}))
    value = end.get("value")
    if value is not None and options.is_json:
        say_json(value)
        return int(end["exit"])
    if value is not None:
        _show(value, is_full=arguments.full)
    return conclude(end)


def _show(value: Any, *, is_full: bool) -> None:
    paint = Paint(wants_colour())
    for step in value["plan"]:
        say(f"{paint.bold(text_of(step['verb']))} {text_of(step['target'])}: {text_of(step['cause'])}")
    files = {path: str(value["files"][path]).splitlines() for path in sorted(value["files"])}
    short = {} if is_full else {path: lines for path, lines in files.items() if _is_new_policy(path, lines)}
    for path, lines in files.items():
        if lines and path not in short:
            say()
            for line in lines:
                say(paint(_meaning(line), visible(line, keep="\t")))
    if short:
        say(paint.bold("\nNew policy files (--full shows them):"))
    for path, lines in short.items():
        say(f"  {text_of(path)}, {len(lines) - HEADING} lines")


def _is_new_policy(path: str, lines: list[str]) -> bool:
    """A file for OPA that takes nobody's place."""
    return path.startswith("opa/") and len(lines) > HEADING and lines[2].startswith("@@ -0,0 ")


def _meaning(line: str) -> str:
    if line.startswith(("+++", "---")):
        return "bold"
    return {"+": "good", "-": "poor"}.get(line[:1], "")
