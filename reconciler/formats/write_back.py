"""Changing one scalar of a manifest and nothing else: comments, order, quotes and line ends stay as they are.

The place comes from the parsed tree, the text is cut there, and the result is read again: if it says anything
else than the old text with that one change, it is not handed out.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from typing import TypeAlias

from reconciler.core.desired import DesiredState, Mode
from reconciler.core.errors import ManifestError, Refused
from reconciler.formats import manifest, spellings, yaml_strict
from reconciler.formats.findings import Findings, shown, shown_text
from reconciler.formats.yaml_strict import Node

Value: TypeAlias = "bool | int | float | str"
EVERYTHING = frozenset({"/", "/run/docker.sock", "/var/run/docker.sock"})

_PLAIN = re.compile(r"[A-Za-z0-9_./@+][A-Za-z0-9_./@+-]*(?::[A-Za-z0-9_./@+-]+)*")
_LINE_END = re.compile("\r\n|\r|\n")


def set_mode(text: bytes, service: str, mode: str, *, file: str = "manifest.yaml") -> bytes:
    """`text` with the service's mode changed where it is written, or added as one line where it is not.

    Raises ManifestError when the text cannot be used, before or after; Refused when the change cannot be made.
    """
    before = _desired(text, file)
    wanted = before.service(service)
    if wanted is None:
        raise Refused(f"{file} has no service {shown_text(service)}. It has {_names(before)}.")
    if mode not in tuple(Mode):
        raise Refused(f"{shown_text(mode)} is no mode. Use stable or canary.")
    if wanted.mode == mode:
        return text
    root = manifest.parse(text, file)
    spellings.normalise(root, Findings(file))
    node, parent = root.at("services", service, "mode"), root.at("services", service)
    assert parent is not None, "a service that was read stands in the tree"
    characters = text.decode("utf-8")
    if node is not None:
        changed = _ending_replaced(characters, node, wanted.mode, mode, file)
    else:
        changed = _inserted(characters, parent, "mode", mode, ("port", "image"))
    after = changed.encode("utf-8")
    _expect(_desired(after, file), _with_mode(before, service, Mode(mode)), file)
    return after


def set_scalar(text: bytes, path: Sequence[str | int], value: Value, *, file: str = "manifest.yaml") -> bytes:
    """`text` with the scalar at `path` (keys and positions, as written) changed, or added to its mapping.

    Raises ManifestError when the text is no manifest, Refused when there is no place for the value.
    """
    root = yaml_strict.load(text, file)
    where = ".".join(map(str, path))
    parent, node = _at(root, path[:-1]), _at(root, path)
    characters = text.decode("utf-8")
    if parent is None or not path:
        raise Refused(f"{file} has no place for {shown_text(where)}. Write it by hand.")
    if node is None and isinstance(path[-1], str) and isinstance(parent.value, dict):
        changed = _inserted(characters, parent, path[-1], written(value), ())
    elif node is not None and not isinstance(node.value, (dict, list)):
        changed = _replaced(characters, node, value)
    else:
        raise Refused(f"{where} is no single value in {file}. Change it by hand.")
    after = changed.encode("utf-8")
    expected = _changed_plain(root.plain(), path, value)
    try:
        said: object = yaml_strict.load(after, file).plain()
    except ManifestError as error:
        raise Refused(f"{where} cannot be changed in {file}: {error}") from error
    if said != expected or not _same_types(said, expected):
        raise Refused(f"{where} cannot be changed in {file} without changing more. Change it by hand.")
    return after


def written(value: Value, style: str = "") -> str:
    """A scalar as YAML, quoted as before where `style` says so, else plain where that is safe."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return format(value, "d" if isinstance(value, int) else "")
    if style == "'" and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    if not style and _PLAIN.fullmatch(value) and yaml_strict.resolved(value) == (value, ""):
        return value
    return json.dumps(value, ensure_ascii=False)


# --- reading before and after


def _desired(text: bytes, file: str) -> DesiredState:
    """What the text asks for, on any host: what lies outside the text is taken as given."""
    reading = manifest.read(text, file=file, env_files=lambda name: "", allow=EVERYTHING)
    if reading.desired is None:
        raise ManifestError(reading.problems)
    return reading.desired


def _names(desired: DesiredState) -> str:
    return ", ".join(service.name for service in desired.services)


def _with_mode(desired: DesiredState, name: str, mode: Mode) -> DesiredState:
    services = tuple(
        dataclasses.replace(service, mode=mode) if service.name == name else service for service in desired.services
    )
    return dataclasses.replace(desired, services=services)


def _expect(after: DesiredState, expected: DesiredState, file: str) -> None:
    if dataclasses.replace(after, revision="") != dataclasses.replace(expected, revision=""):
        raise Refused(f"the mode cannot be changed in {file} without changing more. Change it by hand.")


def _at(root: Node, path: Sequence[str | int]) -> Node | None:
    node: Node | None = root
    for step in path:
        if node is None:
            return None
        if isinstance(step, int):
            node = node.items[step] if 0 <= step < len(node.items) else None
        else:
            node = node.mapping.get(step)
    return node


def _changed_plain(plain: object, path: Sequence[str | int], value: Value) -> object:
    at = plain
    for step in path[:-1]:
        at = at[step]  # type: ignore[index]
    at[path[-1]] = value  # type: ignore[index]
    return plain


def _same_types(left: object, right: object) -> bool:
    """1, 1.0 and true are equal for Python, not for a manifest."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


# --- cutting


def _offset(text: str, line: int, column: int) -> int:
    """Where in the text a line and column (from 1) are."""
    start = 0
    for _ in range(line - 1):
        found = _LINE_END.search(text, start)
        start = found.end() if found else len(text)
    return start + column - 1


def _span(text: str, node: Node) -> tuple[int, int]:
    return _offset(text, node.line, node.column), _offset(text, node.end_line, node.end_column)


def _replaced(text: str, node: Node, value: Value) -> str:
    start, end = _span(text, node)
    gap = " " if start == end and text[start - 1 : start] in (":", "-") else ""
    return text[:start] + gap + written(value, node.style) + text[end:]


def _ending_replaced(text: str, node: Node, old: str, new: str, file: str) -> str:
    """The word `old` at the end of a scalar made `new`; the scalar may be more than that (`MODE=stable`)."""
    start, end = _span(text, node)
    quote = node.style if node.style in ("'", '"') else ""
    cut = end - len(quote)
    if text[cut - len(old) : cut] != old or cut - len(old) < start:
        raise Refused(f"{node.path} is {shown(text[start:end])} in {file}. Write it plainly, then try again.")
    return text[: cut - len(old)] + new + text[cut:]


def _inserted(text: str, mapping: Node, key: str, value: str, after: Sequence[str]) -> str:
    """One more `key: value` in a mapping: on a line of its own, or among its neighbours between braces."""
    entry = f"{written(key)}: {value}"
    first = next(iter(mapping.keys.values()), None)
    if mapping.flow:
        at = _offset(text, mapping.line, mapping.column) + 1 if first is None else _span(text, first)[0]
        return text[:at] + entry + (", " if first else "") + text[at:]
    indent = " " * (mapping.column - 1)
    for name in after:
        known, content = mapping.keys.get(name), mapping.mapping.get(name)
        if known is None or content is None or not _is_one_line(text, known, content):
            continue
        at = _end_of_line(text, known.line)
        return text[:at] + _ending(text, at) + indent + entry + text[at:]
    start = _offset(text, mapping.line, mapping.column)
    return text[:start] + entry + _ending(text, start) + indent + text[start:]


def _is_one_line(text: str, key: Node, content: Node) -> bool:
    """The entry starts its line, and ends on it."""
    before = text[_offset(text, key.line, 1) : _offset(text, key.line, key.column)]
    return not before.strip() and content.end_line == key.line and content.style not in ("|", ">")


def _end_of_line(text: str, line: int) -> int:
    found = _LINE_END.search(text, _offset(text, line, 1))
    return found.start() if found else len(text)


def _ending(text: str, at: int) -> str:
    """The line end used here: that of this line, else the file's first, else a line feed."""
    found = _LINE_END.search(text, at) or _LINE_END.search(text)
    return found.group() if found else "\n"
