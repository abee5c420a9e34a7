"""Suggested commands as they can be copied and run: the program by the name it was called, a reason where it needs one.

Who writes a message (the daemon, the core, git) knows the verb and no more: "`retry` tries it again".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from reconciler.cli.verbs import BY_NAME, Verb

if TYPE_CHECKING:
    from reconciler.operations import Event

PROGRAMS = frozenset({"swiftdeploy", "reconcilerctl"})
NOT_ALONE = frozenset({"logs", "version"})
"""Verbs that are words of manifests as well: a command only with more words behind."""

REASON = '--reason "why"'
AS_THEY_ARE = frozenset({"files"})
"""Members whose texts are not ours."""

_QUOTED = re.compile(r"`([^`\n]{1,300})`")
_NO_REASON = re.compile(r"--reason (?:TEXT|…|\.\.\.)(?= |$)")


def runnable(text: str, program: str) -> str:
    """`text` with each of our commands between backticks spelled as a whole command of `program`."""
    if "`" not in text:
        return text
    return _QUOTED.sub(lambda found: f"`{_command(found[1], program)}`", text)


def _command(quoted: str, program: str) -> str:
    words = quoted.split(" ")
    words = words[1:] if words[0] in PROGRAMS else words
    verb = BY_NAME.get(words[0]) if words else None
    if verb is None or not _is_ours(verb, words):
        return quoted
    command = _NO_REASON.sub(REASON, " ".join(words))
    if verb.needs_reason(words) and "--reason" not in words:
        command += f" {REASON}"
    return f"{program} {command}"


def _is_ours(verb: Verb, words: Sequence[str]) -> bool:
    """These words are the verb's, not those of git itself, or of a manifest."""
    if verb.operands and verb.operands[0].choices and not verb.operands[0].is_optional:
        return len(words) > 1 and words[1] in verb.operands[0].choices
    return len(words) > 1 or verb.name not in NOT_ALONE


def in_events(events: Iterator[Event], program: str) -> Iterator[Event]:
    """`events`, what they tell people made `runnable`."""
    return (everywhere(event, program) for event in events)


def everywhere(value: Any, program: str) -> Any:
    """`value` with every text in it made `runnable`; names of members, and files, stay."""
    if isinstance(value, str):
        return runnable(value, program)
    if isinstance(value, dict):
        return {n: v if n in AS_THEY_ARE else everywhere(v, program) for n, v in value.items()}
    return [everywhere(member, program) for member in value] if isinstance(value, list) else value
