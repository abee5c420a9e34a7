"""`swiftdeploy`, which also answers to `reconcilerctl`: finds the verb, runs it, and says how it ended.

Nothing is imported before it is needed: `--help` loads the verb table and no more.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from reconciler.cli.terminal import OutputClosed, OutputFailed, note
from reconciler.log import visible

if TYPE_CHECKING:
    from argparse import Namespace

    from reconciler.cli.options import Options
    from reconciler.cli.session import Session
    from reconciler.cli.verbs import Verb

USAGE, INTERRUPTED, PIPE_CLOSED = 64, 130, 141
READERS = frozenset({"status", "why", "diff", "logs", "history", "audit", "verify"})
BEFORE_THE_VERB = frozenset({"--file", "--state-dir", "--config", "-o", "--output"})


def main(words: Sequence[str] | None = None) -> int:
    """The console scripts' entry; returns the exit code. Nothing an operator does ends in a traceback."""
    _keep_standard_streams()
    program = os.path.basename(sys.argv[0])
    if not program or program.startswith("-") or program.endswith(".py"):
        program = "swiftdeploy"
    try:
        code = _run(program, sys.argv[1:] if words is None else words)
        sys.stdout.flush()
    except (OutputClosed, BrokenPipeError):
        _drop_standard_output()
        return PIPE_CLOSED
    except (OutputFailed, OSError) as error:
        _drop_standard_output()
        return _complain(f"Cannot write the output: {error}.", 1)
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _run(program: str, words: Sequence[str]) -> int:
    from reconciler.cli.options import UsageError

    try:
        name, others = _split(words)
        if name is None and "--version" in others:
            return _run_verb(program, "version", [word for word in others if word != "--version"])
        if name == "help" and others:
            return _run_verb(program, others[0], ["--help"])
        if name == "help" or (name is None and others in ([], ["-h"], ["--help"])):
            from reconciler.cli.help import show_help

            return show_help(program)
        if name is None:
            raise UsageError(f"Which verb? {visible(' '.join(others))} alone does nothing.")
        return _run_verb(program, name, others)
    except UsageError as error:
        from reconciler.cli.hints import runnable

        return _complain(f"{visible(runnable(str(error), program))}\nSee `{program} --help`.", USAGE)
    except SystemExit as done:  # argparse, once it has printed a verb's help
        return int(done.code or 0)


def _split(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The verb, and all other words in their order: options may stand before the verb too."""
    before: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            return word, before + rest
        before.append(word)
        if word in BEFORE_THE_VERB and rest:
            before.append(rest.pop(0))
    return None, before


def _run_verb(program: str, name: str, words: Sequence[str]) -> int:
    from reconciler.cli.options import UsageError, make_options
    from reconciler.cli.parsing import did_you_mean, parse
    from reconciler.cli.verbs import BY_NAME
    from reconciler.control import exit_code
    from reconciler.core.errors import ManifestError

    verb = BY_NAME.get(name)
    if verb is None:
        raise UsageError(f"There is no verb {name!r}.{did_you_mean(name, tuple(BY_NAME))}")
    arguments = parse(program, verb, words)
    try:
        options = make_options(
            program, arguments.file, arguments.state_dir, arguments.output, os.environ, arguments.config
        )
    except ManifestError as error:
        return _complain(visible(str(error), keep="\n"), exit_code(error))
    if arguments.state_dir and verb.name in READERS and not options.state_dir.exists():
        raise UsageError(f"There is no folder {options.state_dir}: nothing was ever kept there. Is --state-dir right?")
    return _carry_out(verb, arguments, options)


def _carry_out(verb: Verb, arguments: Namespace, options: Options) -> int:
    """The exit code of the verb; every error becomes a message."""
    from reconciler.cli.options import UsageError
    from reconciler.cli.session import open_session
    from reconciler.control import exit_code
    from reconciler.core.errors import ReconcilerError

    session = open_session(options)
    try:
        code: int = import_module(f"reconciler.cli.{verb.name}").run(arguments, options, session)
        return code
    except ReconcilerError as error:
        from reconciler.cli.hints import runnable

        return _complain(visible(runnable(str(error), options.program), keep="\n"), exit_code(error))
    except KeyboardInterrupt:
        return _complain(_interrupted(verb, options, session), INTERRUPTED)
    except (UsageError, OutputClosed, OutputFailed):
        raise
    except Exception as error:  # noqa: BLE001  a bug is told as one, in one line, and written down
        return _crash(error, options)


def _interrupted(verb: Verb, options: Options, session: Session) -> str:
    if not verb.changes:
        return ""
    if session.has_daemon:
        goes_on = f"the daemon goes on by itself, see `{options.program} status`"
    else:
        goes_on = f"what serves goes on serving, and the next `{options.program} {verb.name}` goes on from here"
    return f"Interrupted; nothing is half done: {goes_on}."


def _complain(text: str, code: int) -> int:
    if text:
        note(text)
    return code


def _crash(error: Exception, options: Options) -> int:
    """Write the traceback where the operator can find it, and say where."""
    import tempfile
    import traceback

    trace = traceback.format_exc()
    if os.environ.get("SWIFTDEPLOY_DEBUG") == "1":
        note(visible(trace, keep="\n"))
    path = ""
    for folder in (str(options.state_dir / "run"), tempfile.gettempdir()):
        try:
            handle, path = tempfile.mkstemp(prefix="crash-", suffix=".log", dir=folder)
        except OSError:
            continue
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(trace)
        break
    what = visible(f"{type(error).__name__}: {error}")[:300]
    where = f" The details are in {path}." if path else ""
    return _complain(f"A bug in {options.program}: {what}.{where} Please report it.", 1)


def _keep_standard_streams() -> None:
    """Whatever the caller closed leads to /dev/null, so that no file of ours gets a standard stream's number."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _drop_standard_output() -> None:
    """Nobody reads any more: what is still buffered must not fail once more when Python exits."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
