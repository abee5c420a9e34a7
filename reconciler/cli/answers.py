"""Reading an answer: events as they come, then its end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from reconciler.cli.terminal import note, say, text_of
from reconciler.log import visible

if TYPE_CHECKING:
    from reconciler.operations import Event


def play(events: Iterator[Event], show: Callable[[Any], None]) -> Any:
    """`show` every event but the last, and return that, the `end`."""
    for event in events:
        if event["event"] == "end":
            return event
        show(event)
    raise AssertionError("an answer ended without an end")


def play_json(events: Iterator[Event]) -> int:
    """Every event as it is, one on a line; the exit code."""
    end = play(events, say_json)
    say_json(end)
    return int(end["exit"])


def value_of(events: Iterator[Event]) -> Any:
    """The `end`, where nothing before it matters."""
    return play(events, lambda event: None)


def tell(events: Iterator[Event]) -> int:
    """What an answer tells on its way, then how it ended; a complaint that was told on the way is not said again."""
    told: set[str] = set()

    def show(event: Any) -> None:
        told.add(str(event.get("text") or ""))
        show_line(event)

    return conclude(play(events, show), told)


def conclude(end: Any, told: AbstractSet[str] = frozenset()) -> int:
    """Print how it ended, on standard error when it did not end well; the exit code."""
    text = visible(str(end.get("text") or ""), keep="\n").rstrip("\n")
    if text and not (end["exit"] and text in told):
        (note if end["exit"] else say)(text)
    return int(end["exit"])


def say_json(value: object) -> None:
    """ASCII, so that what others wrote cannot reach a terminal."""
    say(json.dumps(value))


def show_line(event: Any) -> None:
    """What an answer tells on its way, on standard error."""
    if text := text_of(event.get("text")):
        note(f"  {text}")
