"""What is asked: by operators and by the manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from reconciler.core.errors import EngineError, StateError
from reconciler.core.observed import EngineState
from reconciler.core.permission import LASTS_S, Permission
from reconciler.core.rollout import Phase, Rollout
from reconciler.core.targets import wanted_images
from reconciler.core.words import Deploy, Word, hear
from reconciler.cycle.memory import Asked, Memory
from reconciler.cycle.notes import Notes
from reconciler.ports import Loaded, Ports, Wanted


def heard(memory: Memory, words: Sequence[Word], now: float) -> Memory:
    """The memory once `words`, an operator's, are taken in, in their order; `now` in monotonic seconds."""
    for word in words:
        if isinstance(word, Deploy) and word.allow_interruption:
            memory = dataclasses.replace(memory, permission=Permission(now + LASTS_S))
        memory = dataclasses.replace(memory, rollout=hear(memory.rollout, word))
    return memory


def permitted(memory: Memory, loaded: Loaded, now: float) -> Memory:
    """The memory with what is left of a permission where this is what the manifest says; `now` in monotonic seconds."""
    if memory.permission is None:
        return memory
    revision = loaded.desired.revision if loaded.desired is not None and loaded.settled else ""
    return dataclasses.replace(memory, permission=memory.permission.left(revision, now))


def save_words(ports: Ports, memory: Memory, words: Sequence[Word], notes: Notes) -> Memory:
    """What an operator said is not lost, even if the engine is away and the daemon dies before it is back.

    What could not be put on disk is tried again in each cycle.
    """
    if not (words or memory.is_unsaved):
        return memory
    try:
        ports.rollouts.save(memory.rollout)
    except StateError as error:
        notes.errors.append(str(error))
        return dataclasses.replace(memory, is_unsaved=True)
    return dataclasses.replace(memory, is_unsaved=False)


def what_is_asked(memory: Memory, loaded: Loaded) -> Asked | None:
    """None while there is nothing to go by: no manifest was ever good."""
    incoming = loaded.desired if loaded.settled else None
    if memory.last_good is None:
        return Asked(incoming, incoming, is_proposal=True) if incoming else None
    if incoming is None or incoming == memory.last_good:
        return Asked(memory.last_good, None)
    return Asked(memory.last_good, incoming)


def wanted_of(ports: Ports, asked: Asked, rollout: Rollout) -> Wanted:
    """What the engine is to be asked about: our containers, and every image and port that may matter."""
    images = dict.fromkeys(image for desired in asked.both for image in wanted_images(desired))
    back = {state.last_stable for state in rollout.services.values() if state.phase is Phase.ABSENT}
    images |= dict.fromkeys(kept.image.id for kept in ports.rollouts.kept() if kept.revision in back)
    return Wanted(
        project=asked.force.project,
        instance=ports.instance,
        network=asked.force.network.name,
        images=tuple(images),
        ports=tuple({desired.nginx.port: None for desired in asked.both}),
    )


def refuse_a_rival(project: str, engine: EngineState) -> None:
    """Two daemons of one project would undo each other's work: the one that came second does nothing."""
    theirs = sorted(container.name for container in engine.containers if not container.ours)
    if theirs:
        raise EngineError(
            f"project {project} is run from another state directory already: {', '.join(theirs[:3])}. "
            "Give this one another project.name, or take the other down first (`swiftdeploy teardown` there)."
        )
