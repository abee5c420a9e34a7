"""YAML as the manifest allows it: JSON's types, every node with the place where it was written.

One pass over the parser's events builds the tree, so nothing recurses and nothing is resolved by a library's
constructors: 451 bytes of merge keys hang `yaml.safe_load` for two minutes, and 200 kB of brackets crash the C
composer. What YAML readers disagree about (0755, 22:22, 2024-01-01, 1e3) is refused instead of guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

import yaml

from reconciler.core.desired import Json
from reconciler.core.errors import ManifestError
from reconciler.formats.findings import MOST, Findings, shown_key, shown_text

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
MAX_NODES = 20_000
MAX_SCALAR = 16_384
MAX_KEY = 256

Scalar: TypeAlias = "bool | int | float | str | None"


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A scalar, a sequence (`list`) or a mapping (`dict`), from `line:column` up to `end_line:end_column`.

    Lines and columns count from 1, in characters; the end is the first character after it. `path` is the way
    to it as written (`services.rollout.steps[1].weight`), `text` a scalar without its quotes, `style` its
    quoting (empty when plain), `keys` the nodes of a mapping's keys.
    """

    value: Scalar | list[Node] | dict[str, Node]
    line: int
    column: int
    end_line: int = 0
    end_column: int = 0
    path: str = ""
    text: str = ""
    style: str = ""
    flow: bool = False
    keys: dict[str, Node] = field(default_factory=dict)

    @property
    def mapping(self) -> dict[str, Node]:
        """Its entries; none where it is not a mapping."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Node]:
        """Its entries; none where it is not a sequence."""
        return self.value if isinstance(self.value, list) else []

    def at(self, *keys: str) -> Node | None:
        """The value below, key by key, or None."""
        node: Node | None = self
        for key in keys:
            node = node.mapping.get(key) if node is not None else None
        return node

    def plain(self) -> Json:
        """The value without its places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def load(data: bytes, file: str) -> Node:
    """The one document in `data`; raises ManifestError with everything that is wrong, and nothing else."""
    findings = Findings(file)
    text = _decoded(data, findings)
    root = None
    if text is not None:
        try:
            root = _Builder(findings).build(_events(text))
        except (yaml.YAMLError, ValueError, OverflowError) as error:  # the Python parser lets some of the latter out
            _syntax(error, findings)
    if findings.problems or root is None:
        raise ManifestError(findings.problems)
    return root


# --- bytes to characters


_NOT_ALLOWED = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff0-\uffff\U000e0000-\U000e0fff]"
)
_BREAK = re.compile("\r\n|\r|\n")


def _decoded(data: bytes, findings: Findings) -> str | None:
    """The text, or None with a problem that makes looking further useless."""
    if len(data) > MAX_BYTES:
        findings.problem(None, f"the file is {len(data)} bytes long. At most {MAX_BYTES} (256 KiB) are read.")
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line, column = place(data[: error.start].decode("utf-8"), error.start)
        findings.problem((line, column), f"byte 0x{data[error.start]:02x} is not UTF-8. Save the file as UTF-8.")
        return None
    if text.startswith("\ufeff"):
        findings.problem((1, 1), "the file starts with a byte order mark. Save it as UTF-8 without one.")
        return None
    _note_invisible(text, findings)
    return None if findings.problems else text


def _note_invisible(text: str, findings: Findings) -> None:
    """Each character that cannot be seen, in one walk: 256 KiB may hold as many of them."""
    line, start, seen = 1, 0, 0
    found_ones = _NOT_ALLOWED.finditer(text)
    for found in islice(found_ones, MOST - 1):
        for end in _BREAK.finditer(text, seen, found.start()):
            line, start = line + 1, end.end()
        seen = found.start()
        findings.problem((line, seen - start + 1), _invisible(found.group()) + " Remove it.")
    if more := sum(1 for _ in found_ones):
        findings.problem(None, f"{more} more characters that cannot be seen. Remove them all.")


def place(text: str, offset: int) -> tuple[int, int]:
    """Line and column (from 1) of the character at `offset`."""
    line, start = 1, 0
    for found in _BREAK.finditer(text, 0, min(offset, len(text))):
        line, start = line + 1, found.end()
    return line, min(offset, len(text)) - start + 1


def _invisible(character: str) -> str:
    return f"character U+{ord(character):04X} cannot be seen and is not allowed."


# --- characters to events


def _events(text: str) -> Iterator[Any]:
    """The parser's events: the C parser's where PyYAML was built with it, else the slow one's."""
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    events: Iterator[Any] = yaml.parse(text, Loader=loader)
    return events


_SYNTAX_HINTS = (
    ("found character '\\t'", "YAML does not indent with tabs: use spaces."),
    ("found character that cannot start any token", "Put the value in quotes, and indent with spaces, not tabs."),
    ("mapping values are not allowed", "A value with ': ' in it needs quotes; else check the indentation."),
    ("could not find expected ':'", "A ':' is missing here or on the line before."),
    ("did not find expected key", "Check the indentation and the quotes of this line and the one before."),
    ("did not find expected '-' indicator", "Check the indentation of this list."),
    ("found unexpected end of stream", "A quote or bracket is never closed."),
    ("found unknown escape character", 'Inside "..." write \\\\ for a backslash, or use single quotes.'),
)


def _syntax(error: Exception, findings: Findings) -> None:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    said = str(getattr(error, "problem", None) or type(error).__name__)
    hint = next((hint for part, hint in _SYNTAX_HINTS if part in said), "Check the indentation and the quotes here.")
    where = (mark.line + 1, mark.column + 1) if mark is not None else None
    findings.problem(where, f"not valid YAML: {shown_text(said)}. {hint}")


# --- events to nodes


class _Stop(Exception):
    """A limit was passed: whatever comes is not looked at."""


@dataclass(slots=True)
class _Open:
    """A sequence or mapping whose end has not come yet; `key` waits for its value, None means a key comes next."""

    value: list[Node] | dict[str, Node]
    where: tuple[int, int]
    path: str
    flow: bool
    keys: dict[str, Node] = field(default_factory=dict)
    key: Node | None = None
    key_is_good: bool = True

    def path_of_next(self) -> str:
        """Where the node that comes next belongs (a key is given the path of the mapping it is in)."""
        if isinstance(self.value, list):
            return f"{self.path}[{len(self.value)}]"
        if self.key is None:
            return self.path
        key = shown_key(self.key.text)
        return f"{self.path}.{key}" if self.path else key


class _Builder:
    """Events in, one tree out; wrong nodes become problems and the tree goes on without them."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.stack: list[_Open] = []
        self.root: Node | None = None
        self.nodes = 0
        self.documents = 0

    def build(self, events: Iterator[Any]) -> Node | None:
        try:
            for event in events:
                self._take(event)
        except _Stop:
            return None
        if self.documents == 0:
            self.findings.problem((1, 1), "the file is empty. Start with the six keys of docs/manifest.md.")
        return self.root

    def _take(self, event: Any) -> None:
        where = (event.start_mark.line + 1, event.start_mark.column + 1)
        end = (event.end_mark.line + 1, event.end_mark.column + 1)
        match event:
            case yaml.DocumentStartEvent():
                self._document(event, where)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._count(where)
                self._no_references(event, where)
                self._open({} if isinstance(event, yaml.MappingStartEvent) else [], where, bool(event.flow_style))
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                done = self.stack.pop()
                self._add(Node(done.value, *done.where, *end, done.path, flow=done.flow, keys=done.keys))
            case yaml.ScalarEvent() | yaml.AliasEvent():
                self._count(where)
                self._no_references(event, where)
                self._add(self._scalar(event, where, end))

    def _document(self, event: Any, where: tuple[int, int]) -> None:
        self.documents += 1
        if self.documents > 1:
            self.findings.problem(where, "a second document starts here. One file holds one manifest: remove '---'.")
            raise _Stop
        if event.version or event.tags:
            self.findings.problem(where, "%YAML and %TAG lines are not allowed. Remove them.")

    def _count(self, where: tuple[int, int]) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self.findings.problem(where, f"more than {MAX_NODES} values. A manifest this large is not read.")
            raise _Stop

    def _no_references(self, event: Any, where: tuple[int, int]) -> None:
        if isinstance(event, yaml.AliasEvent):
            self.findings.problem(where, f"alias *{shown_key(event.anchor or '')} is not allowed. Write the value out.")
            return
        if event.anchor is not None:
            self.findings.problem(where, f"anchor &{shown_key(event.anchor)} is not allowed. Write the value out.")
        if event.tag is not None:
            self.findings.problem(where, f"tag {shown_text(event.tag)} is not allowed. Write the plain value.")

    def _open(self, value: list[Node] | dict[str, Node], where: tuple[int, int], flow: bool) -> None:
        if len(self.stack) == MAX_DEPTH:
            self.findings.problem(where, f"nested deeper than {MAX_DEPTH} levels. Write it flatter.")
            raise _Stop
        self.stack.append(_Open(value, where, self._path(), flow))

    def _scalar(self, event: Any, where: tuple[int, int], end: tuple[int, int]) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return Node(None, *where, *end, self._path())
        text: str = event.value
        style: str = event.style or ""
        value: Scalar = text
        complaint = ""
        if len(text) > MAX_SCALAR:
            complaint = f"a text of {len(text)} characters. At most {MAX_SCALAR} are allowed."
        elif hidden := _NOT_ALLOWED.search(text):
            complaint = _invisible(hidden.group()) + " Remove the escape."
        elif not style and event.tag is None:
            value, complaint = resolved(text)
        if complaint:
            self.findings.problem(where, complaint)
        return Node(value, *where, *end, self._path(), text, style)

    def _path(self) -> str:
        return self.stack[-1].path_of_next() if self.stack else ""

    def _add(self, node: Node) -> None:
        if not self.stack:
            self.root = node
            return
        parent = self.stack[-1]
        if isinstance(parent.value, list):
            parent.value.append(node)
        elif parent.key is None:
            parent.key, parent.key_is_good = node, self._is_good_key(node, parent)
        else:
            if parent.key_is_good:
                parent.value[parent.key.text] = node
                parent.keys[parent.key.text] = parent.key
            parent.key = None

    def _is_good_key(self, key: Node, mapping: _Open) -> bool:
        complaint = ""
        if not isinstance(key.value, str):
            what = shown_text(key.text) if key.text else "this key"
            complaint = f"{what} is no text. Keys are text: write a name, or put it in quotes."
        elif key.value == "<<" and not key.style:
            complaint = "merge key << is not allowed. Write the values out."
        elif not key.value or len(key.value) > MAX_KEY or not key.value.isprintable():
            complaint = f"{shown_text(key.value)} cannot be a key. Use one line of 1 to {MAX_KEY} characters."
        elif (first := mapping.keys.get(key.value)) is not None:
            name = f"{mapping.path}." * bool(mapping.path) + shown_key(key.value)
            complaint = f"{name} is written twice, first on line {first.line}, column {first.column}. Keep one of them."
        if complaint:
            self.findings.problem(key, complaint)
        return not complaint


# --- plain scalars

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,17}")
_LOOKS_LIKE = (
    (re.compile(r"[-+]?[0-9_]{19,}"), "a number too long to be counted with"),
    (re.compile(r"[-+]?[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?"), "a date to some YAML readers"),
    (re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"), "a number in base 60 to some YAML readers"),
    (re.compile(r"[-+]?0[0-9_]+"), "an octal number to some YAML readers"),
    (re.compile(r"[-+]?0[xob][0-9a-fA-F_]*"), "a hexadecimal, octal or binary number to some YAML readers"),
    (re.compile(r"[-+]?\.(?:inf|Inf|INF|nan|NaN|NAN)"), "no number that can be counted with"),
    (re.compile(r"[-+]?[0-9][0-9_]*"), "a number to some YAML readers"),
    (re.compile(r"[-+]?(?=[.]?[0-9])[0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?"), "a number to some YAML readers"),
)


def resolved(text: str) -> tuple[Scalar, str]:
    """The value of a plain scalar, and a complaint where YAML readers disagree about it."""
    if text in ("null", "~", ""):
        return None, ""
    if text in ("true", "false"):
        return text == "true", ""
    if text[0] not in "+-.0123456789":
        return text, ""
    if _INTEGER.fullmatch(text):
        return int(text), ""
    if _DECIMAL.fullmatch(text):
        return float(text), ""
    name = next((name for pattern, name in _LOOKS_LIKE if pattern.fullmatch(text)), "")
    return text, name and f"{shown_text(text)} is {name}. Put it in quotes, or write a plain decimal number."
