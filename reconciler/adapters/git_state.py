"""Which commit of a repository is in force, kept over restarts: `git/state.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.adapters.state_dir import StateDir
from reconciler.core.desired import Json
from reconciler.core.errors import StateError
from reconciler.core.git_config import GitConfig
from reconciler.core.provenance import Commit
from reconciler.formats import git_url

FILE = "git/state.json"


@dataclass(frozen=True, slots=True)
class Kept:
    """The commit in force, since when, and the ids of those before it whose files are still here."""

    commit: Commit
    at: str
    previous: tuple[str, ...] = ()


def save_state(state: StateDir, config: GitConfig, kept: Kept) -> None:
    """Durable when it returns. Raises StateError."""
    commit = kept.commit
    value: dict[str, Json] = {
        **_about(config),
        "commit": commit.id,
        "author": commit.author,
        "subject": commit.subject,
        "when": commit.when,
        "signer": commit.signer,
        "source": commit.source,
        "at": kept.at,
        "previous": list(kept.previous),
    }
    state.save_json(FILE, value)


def load_state(state: StateDir, config: GitConfig) -> tuple[Kept | None, str]:
    """What was saved for this repository, ref and path; else None, and a few words where something was lost."""
    try:
        loaded = state.load_json(FILE)
    except StateError as error:
        return None, str(error)
    if loaded.value is None:
        return None, f"{state.path / FILE}: {loaded.reason}" if loaded.reason else ""
    about = _about(config)
    if {name: loaded.value.get(name) for name in about} != about:
        return None, "another repository, ref or path is configured now"
    try:
        return _kept(loaded.value), ""
    except (KeyError, TypeError, ValueError) as error:
        return None, f"{state.path / FILE} is not what was written: {error}"


def _about(config: GitConfig) -> dict[str, Json]:
    return {"url": config.url, "ref": config.ref, "path": config.path}


def _kept(value: Mapping[str, Json]) -> Kept:
    texts = {name: value[name] for name in ("commit", "author", "subject", "when", "source", "at")}
    if not all(isinstance(text, str) for text in texts.values()):
        raise TypeError("a text is missing")
    signer, previous = value["signer"], value["previous"]
    if not (signer is None or isinstance(signer, str)) or not isinstance(previous, list):
        raise TypeError("a value is of another type")
    commit = Commit(
        git_url.commit_id(str(texts["commit"])),
        str(texts["author"]),
        str(texts["subject"]),
        str(texts["when"]),
        signer,
        str(texts["source"]),
    )
    return Kept(commit, str(texts["at"]), tuple(git_url.commit_id(str(one)) for one in previous))
