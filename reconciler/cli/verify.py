"""`verify`: is the history what was written? Read from the files themselves, beside the daemon or without it."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from reconciler.cli.answers import say_json
from reconciler.cli.options import Options
from reconciler.cli.session import Session
from reconciler.cli.terminal import Paint, note, say, wants_colour
from reconciler.core.errors import StateError
from reconciler.log import visible


def run(arguments: Namespace, options: Options, session: Session) -> int:
    from reconciler.adapters.history_file import HistoryReader
    from reconciler.cli.verify_view import verdict_lines
    from reconciler.formats.history_verdict import as_json, judge

    if not options.state_dir.is_dir():
        note(f"There is no history: {options.state_dir} does not exist.")
        return 1
    if arguments.show_key:
        return _show_key(options)
    named = _named_keys(arguments.key)
    verdict = judge(
        HistoryReader(options.state_dir).segments(),
        arguments.after,
        expected=arguments.expect_checkpoint,
        full=arguments.full,
        trusted=_own_keys(options) if named is None else named,
        must_be_signed=named is not None,
    )
    if options.is_json:
        say_json(as_json(verdict))
    elif not verdict.files:
        note(f"There is no history in {options.state_dir} yet.")
    else:
        say("\n".join(verdict_lines(verdict, Paint(wants_colour()), arguments.key or "")))
    return 0 if verdict.is_whole else 1


def _show_key(options: Options) -> int:
    """The public half on standard output, as OpenSSH writes it: an auditor keeps it elsewhere, and names it later."""
    from reconciler.adapters.history_key import HistoryKey
    from reconciler.formats.history_checkpoint import fingerprint, public_keys

    line = HistoryKey(options.state_dir).public()
    if line is None:
        note(f"There is no key in {options.state_dir} yet. The first checkpoint makes it.")
        return 1
    (key,) = public_keys(line)
    if options.is_json:
        say_json({"key": line, "fingerprint": fingerprint(key)})
    else:
        say(line)
        note(fingerprint(key))
    return 0


def _named_keys(path: str | None) -> frozenset[bytes] | None:
    """The keys in a file that somebody named; None where nobody did. StateError where they cannot be had."""
    if path is None:
        return None
    from reconciler.formats.history_checkpoint import public_keys

    try:
        text = Path(path).read_text(encoding="utf-8")
        found = public_keys(text)
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}. Name a file of public keys.") from error
    except ValueError as error:
        raise StateError(f"{path} holds something else than public keys: {visible(str(error))}.") from error
    if not found:
        raise StateError(f"{path} holds no key. `verify --show-key` prints the one of a state directory.")
    return found


def _own_keys(options: Options) -> frozenset[bytes]:
    """The key that lies beside the log: whoever can rewrite the one can replace the other, so it proves less."""
    from reconciler.adapters.history_key import HistoryKey
    from reconciler.formats.history_checkpoint import public_keys

    line = HistoryKey(options.state_dir).public()
    return public_keys(line) if line else frozenset()
