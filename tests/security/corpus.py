"""All attacks, and what their letters stand for."""

from __future__ import annotations

from collections.abc import Mapping

from tests.security import (
    corpus_answers,
    corpus_control,
    corpus_files,
    corpus_git,
    corpus_manifest,
    corpus_strings,
    corpus_terminal,
)
from tests.security.cases import Attack

KINDS = {
    "M": "manifest",
    "N": "nginx",
    "E": "environment",
    "O": "OPA's answers",
    "X": "containers' answers",
    "P": "files",
    "C": "control socket",
    "H": "chaos",
    "L": "terminals and reports",
    "T": "git",
}
ATTACKS: tuple[Attack, ...] = (
    *corpus_manifest.CASES,
    *corpus_answers.CASES,
    *corpus_strings.CASES,
    *corpus_files.CASES,
    *corpus_control.CASES,
    *corpus_terminal.CASES,
    *corpus_git.CASES,
)


def figures(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{KINDS[kind]} {counted[kind]}" for kind in KINDS)
