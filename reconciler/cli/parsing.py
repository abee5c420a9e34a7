"""A command line to a verb and its arguments, by the verb table. argparse is loaded only when there is a verb."""

from __future__ import annotations

import re
import shlex
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter, _ArgumentGroup
from collections.abc import Callable, Sequence
from typing import NoReturn

from reconciler.cli.hints import REASON
from reconciler.cli.options import UsageError
from reconciler.cli.terminal import say
from reconciler.cli.verbs import COMMON, Operand, Option, Verb


def parse(program: str, verb: Verb, words: Sequence[str]) -> Namespace:
    """The arguments of `verb`. Raises UsageError, or SystemExit(0) once help is printed."""
    parser = _Parser(
        prog=f"{program} {verb.name}",
        description=f"{verb.summary[0].upper()}{verb.summary[1:]}.\n\n{verb.about}".rstrip(),
        epilog=_examples(program, verb),
        formatter_class=_Format,
        allow_abbrev=False,
        add_help=False,
    )
    for operand in verb.operands:
        _add_operand(parser, operand)
    for option in verb.options:
        _add_option(parser, option)
    common = parser.add_argument_group("options of every verb")
    for option in COMMON:
        _add_option(common, option)
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        raise UsageError(_unknown(unknown[0], verb))
    if verb.needs_reason(words) and arguments.reason is None:
        raise UsageError(_no_reason(program, verb, words))
    return arguments


def _no_reason(program: str, verb: Verb, words: Sequence[str]) -> str:
    who = verb.reason_flag or " ".join([verb.name, *(o.choices[0] for o in verb.operands if len(o.choices) == 1)])
    given = " ".join((program, verb.name, *map(shlex.quote, words), REASON))
    return f"{who} needs --reason: {verb.why_reason}. Like this: `{given}`."


class _Parser(ArgumentParser):
    def print_help(self, file: object = None) -> None:
        say(self.format_help().rstrip())

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}.")


class _Format(RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=100)


def _add_operand(parser: ArgumentParser, operand: Operand) -> None:
    parser.add_argument(
        operand.name.lower(),
        metavar=operand.name,
        help=_literal(operand.help),
        choices=operand.choices or None,
        nargs="?" if operand.is_optional else None,
    )


def _add_option(parser: ArgumentParser | _ArgumentGroup, option: Option) -> None:
    if "--help" in option.flags:
        parser.add_argument(*option.flags, action="help", help=_literal(option.help))
    elif not option.value:
        parser.add_argument(*option.flags, action="store_true", help=_literal(option.help))
    else:
        parser.add_argument(
            *option.flags,
            dest=option.dest or None,
            metavar="|".join(option.choices) or option.value,
            type=KINDS[option.kind],
            choices=option.choices or None,
            default=option.default,
            help=_literal(option.help),
        )


def _literal(text: str) -> str:
    """`text` as argparse shows it: it would take a % for a place to fill in."""
    return text.replace("%", "%%")


def _examples(program: str, verb: Verb) -> str:
    if not verb.examples:
        return ""
    return "examples:\n" + "\n".join(f"  {program} {line.format(program=program)}" for line in verb.examples)


def _unknown(word: str, verb: Verb) -> str:
    known = [flag for option in (*verb.options, *COMMON) for flag in option.flags]
    return f"{verb.name} does not know {word!r}.{did_you_mean(word.partition('=')[0], known)}"


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A sentence that proposes the nearest of `known`, or nothing."""
    from difflib import get_close_matches

    near = get_close_matches(word, known, n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


# --- values ------------------------------------------------------------------------------------------------------


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ArgumentTypeError(f"{text[:40]!r} is not a whole number")
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text) or float(text) == 0:
        raise ArgumentTypeError(f"{text[:40]!r} is not a number of seconds above 0")
    return float(text)


def _span(text: str) -> float:
    """A length of time: 90, 90s, 10m, 2h, 1d."""
    found = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)([smhdw]?)", text)
    if not found or float(found[1]) == 0:
        raise ArgumentTypeError(f"{text[:40]!r} is no length of time: 90s, 10m, 2h or 1d")
    return float(found[1]) * _UNITS[found[2] or "s"]


def _share(text: str) -> float:
    """A share of the requests, 0.5 or 50%, above 0 and at most 1."""
    found = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)(%?)", text)
    share = float(found[1]) / (100 if found[2] else 1) if found else 0.0
    if not 0.0 < share <= 1.0:
        raise ArgumentTypeError(f"{text[:40]!r} is no share above 0 and at most 1: 0.5 or 50%")
    return share


def _words(text: str) -> str:
    """Something a person would say, on one line."""
    said = " ".join(text.split())
    if not said or len(said) > 500:
        raise ArgumentTypeError("a reason is some words, at most 500 characters")
    return said


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def _moment(text: str) -> str | int:
    """Seconds before now (10m, 2h, 3d), or the RFC 3339 text of a moment."""
    if found := re.fullmatch(r"([0-9]{1,6})([smhdw])", text):
        return int(found[1]) * _UNITS[found[2]]
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.astimezone()).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        raise ArgumentTypeError(f"{text[:40]!r} is no time: 10m, 2h, 3d or 2026-05-06T12:00:00Z") from None


def _link(text: str) -> object:
    """A record's number and its hash, as `verify` prints them."""
    found = re.fullmatch(r"([1-9][0-9]{0,18}):([0-9a-f]{64})", text)
    if not found:
        raise ArgumentTypeError(f"{text[:40]!r} is no SEQ:HASH, a record's number and its 64 hexadecimal digits")
    from reconciler.formats.history import Link

    return Link(int(found[1]), found[2])


KINDS: dict[str, Callable[[str], object]] = {
    "text": str,
    "file": str,
    "folder": str,
    "count": _count,
    "seconds": _seconds,
    "moment": _moment,
    "span": _span,
    "share": _share,
    "words": _words,
    "link": _link,
}
