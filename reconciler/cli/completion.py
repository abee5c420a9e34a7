"""`completion`: a script for bash or zsh, made from the verb table."""

from __future__ import annotations

import re
from argparse import Namespace

from reconciler.cli.options import Options
from reconciler.cli.session import Session
from reconciler.cli.terminal import say
from reconciler.cli.verbs import COMMON, VERBS, Option, Verb


def run(arguments: Namespace, options: Options, session: Session) -> int:
    say({"bash": bash_script, "zsh": zsh_script}[arguments.shell](options.program))
    return 0


# --- bash --------------------------------------------------------------------------------------------------------

_BASH = """\
# bash completion for {program}
{function}() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" verb="" words="" i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${{COMP_WORDS[i]}}" in
            {valued}) ((i++)) ;;
            -*) ;;
            *) verb="${{COMP_WORDS[i]}}"; break ;;
        esac
    done
    COMPREPLY=()
    case "$before" in
{values}
    esac
    case "$verb" in
        "") words="{verbs} {common}" ;;
{rows}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -F {function} {program}"""


def bash_script(program: str) -> str:
    """Written for bash 3.2 and later; needs no bash-completion package."""
    options = [option for verb in VERBS for option in verb.options] + list(COMMON)
    valued = sorted({flag for option in options if option.value for flag in option.flags})
    rows = "\n".join(f'        {verb.name}) words="{_bash_words(verb)}" ;;' for verb in VERBS)
    return _BASH.format(
        program=program,
        function=_function(program),
        valued="|".join(valued),
        values="\n".join(_bash_value(option) for option in _distinct(options) if option.value),
        verbs=" ".join(verb.name for verb in VERBS),
        common=_flags(COMMON),
        rows=rows,
    )


def _bash_value(option: Option) -> str:
    match option.kind:
        case _ if option.choices:
            words = f'-W "{" ".join(option.choices)}"'
        case "file":
            words = "-f"
        case "folder":
            words = "-d"
        case _:
            return f"        {'|'.join(option.flags)}) return ;;"
    return f'        {"|".join(option.flags)}) COMPREPLY=($(compgen {words} -- "$word")); return ;;'


def _bash_words(verb: Verb) -> str:
    choices = [word for operand in verb.operands for word in operand.choices]
    return " ".join((*choices, _flags((*verb.options, *COMMON))))


# --- zsh ---------------------------------------------------------------------------------------------------------

_ZSH = """\
#compdef {program}
# zsh completion for {program}
{function}() {{
    local curcontext="$curcontext" state line
    _arguments -C \\
        {common} \\
        '1:verb:->verb' '*::word:->words'
    case $state in
        verb)
            local -a verbs=(
{verbs}
            )
            _describe verb verbs ;;
        words)
            case $line[1] in
{rows}
            esac ;;
    esac
}}
if [[ $funcstack[1] == {function} ]]; then {function} "$@"; else compdef {function} {program}; fi"""


def zsh_script(program: str) -> str:
    """Works from a folder of $fpath as `_{program}`, and when sourced after compinit."""
    return _ZSH.format(
        program=program,
        function=_function(program),
        common=_zsh_options(COMMON),
        verbs="\n".join(f"                {_zsh_quoted(f'{verb.name}:{verb.summary}')}" for verb in VERBS),
        rows="\n".join(f"                {verb.name}) {_zsh_arguments(verb)} ;;" for verb in VERBS),
    )


def _zsh_arguments(verb: Verb) -> str:
    operands = [
        _zsh_quoted(f"{number}:{operand.name.lower()}:({' '.join(operand.choices)})")
        for number, operand in enumerate(verb.operands, 1)
    ]
    return " ".join(("_arguments", *operands, _zsh_options((*verb.options, *COMMON))))


def _zsh_options(options: tuple[Option, ...]) -> str:
    return " ".join(_zsh_option(option, flag) for option in options for flag in option.flags)


def _zsh_option(option: Option, flag: str) -> str:
    others = " ".join(option.flags)
    action = {"file": "_files", "folder": "_files -/"}.get(option.kind, " ")
    if option.choices:
        action = f"({' '.join(option.choices)})"
    value = f":{option.value.lower()}:{action}" if option.value else ""
    text = re.sub(r"([\[\]:\\])", r"\\\1", option.help)
    return _zsh_quoted(f"({others}){flag}[{text}]{value}")


def _zsh_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


# --- both --------------------------------------------------------------------------------------------------------


def _function(program: str) -> str:
    return "_" + re.sub(r"[^A-Za-z0-9_]", "_", program)


def _flags(options: tuple[Option, ...]) -> str:
    return " ".join(flag for option in options for flag in option.flags)


def _distinct(options: list[Option]) -> list[Option]:
    """Options without those whose flags an earlier one has."""
    seen: dict[tuple[str, ...], Option] = {}
    for option in options:
        seen.setdefault(option.flags, option)
    return list(seen.values())
