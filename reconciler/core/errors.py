"""Everything that can go wrong outside the core, as one small tree.

    ReconcilerError
    ├── ManifestError      the manifest cannot be used: one or many `Problem`s with file, line, column
    ├── RenderError        a value must not reach a rendered file
    ├── EngineError        the container engine said no, or said nothing
    │   └── EffectUnknown  the call may or may not have happened: look again before the next act
    ├── PolicyError        OPA gave no usable answer
    ├── StateError         the state directory cannot be read or written
    ├── HistoryError       the history is not what it was when it was written
    └── Refused            the operator asked for something that must not be done now

The core itself raises none of them: a broken invariant there is an `AssertionError`, a bug.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class ReconcilerError(Exception):
    """What happened, where, and what to do, in one sentence an operator can act on.

    `retryable` is true where the same call may succeed later without anybody changing anything.
    """

    retryable = False


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong (or odd) in a file; lines and columns count from 1, 0 means "the whole file"."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{where}: {self.message}"


class ManifestError(ReconcilerError):
    """The manifest cannot be used; `problems` holds every reason found, in file order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class RenderError(ReconcilerError):
    """A value would have changed the structure of a rendered file."""


class EngineError(ReconcilerError):
    """The container engine refused or could not be reached; `retryable` says whether to expect better."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class EffectUnknown(EngineError):
    """A call timed out or its connection broke: it may have happened (Docker often goes on)."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=True)


class PolicyError(ReconcilerError):
    """OPA is down, undefined, late, malformed or of another revision: nobody knows the answer."""

    retryable = True


class StateError(ReconcilerError):
    """A file of the state directory cannot be read or written."""

    retryable = True


class HistoryError(ReconcilerError):
    """The history's chain is broken where no crash could have broken it."""


class Refused(ReconcilerError):
    """An operator's request that must not be carried out now; the message says why and what would help."""
