"""The stories that people live through with this program, without any fault: where every schedule begins."""

from __future__ import annotations

import functools

from tests.sim.steps import Step, happen
from tests.sim.world import World

DEPLOYED = ["cycle", 6]

SCENARIOS: dict[str, tuple[str, list[Step]]] = {
    "first deployment": ("1", [["cycle", 6]]),
    "first deployment of three services": ("1 job shop", [["cycle", 7]]),
    "update": ("1", [DEPLOYED, ["wants", "2"], ["cycle", 20]]),
    "update of two replicas": ("1 x2", [DEPLOYED, ["wants", "2 x2"], ["cycle", 20]]),
    "adopted": ("1 adopt", [DEPLOYED, ["wants", "2 adopt"], ["cycle", 16]]),
    "blue-green": ("1", [DEPLOYED, ["wants", "2 blue_green"], ["cycle", 18]]),
    "quick": ("1", [DEPLOYED, ["wants", "2 quick"], ["cycle", 15]]),
    "rolling": ("1 x2", [DEPLOYED, ["wants", "2 rolling x2"], ["cycle", 8]]),
    "recreate": ("1", [DEPLOYED, ["wants", "2 recreate"], ["cycle", 6]]),
    "bad canary": ("1", [DEPLOYED, ["wants", "2"], ["cycle", 4], ["errors", "demo:2", 0.5], ["cycle", 10]]),
    "never healthy": ("1", [DEPLOYED, ["wants", "2"], ["sick", "demo:2"], ["cycle", 26]]),
    "bad after promotion": ("1", [DEPLOYED, ["wants", "2"], ["cycle", 15], ["errors", "demo:2", 0.5], ["cycle", 14]]),
    "carrier fails": (
        "1",
        [DEPLOYED, ["wants", "2"], ["cycle", 8], ["sick", "demo:2"], ["cycle", 3], ["sick"], ["cycle", 12]],
    ),
    "canary hangs": (
        "1",
        [
            DEPLOYED,
            ["wants", "2"],
            ["cycle", 3],
            ["docker pause", 3],
            ["cycle", 3],
            ["docker unpause", 0],
            ["cycle", 16],
        ],
    ),
    "canary hangs when it is promoted": (
        "1",
        [
            DEPLOYED,
            ["wants", "2"],
            ["cycle", 6],
            ["fault", 4, "lost"],
            ["cycle", 1],
            ["docker pause", 3],
            ["cycle", 3],
            ["docker unpause", 0],
            ["cycle", 16],
        ],
    ),
    "new ones hang": (
        "1",
        [
            DEPLOYED,
            ["wants", "2"],
            ["cycle", 11],
            ["docker pause", 3],
            ["cycle", 3],
            ["docker unpause", 0],
            ["cycle", 9],
        ],
    ),
    "old ones are not well": (
        "1",
        [
            DEPLOYED,
            ["wants", "2"],
            ["cycle", 15],
            ["sick", "demo:1"],
            ["word", "rollback"],
            ["cycle", 4],
            ["sick"],
            ["cycle", 12],
        ],
    ),
    "kept canary": ("1", [DEPLOYED, ["wants", "1 hold"], ["cycle", 9], ["wants", "1"], ["cycle", 6]]),
    "promote": ("1", [DEPLOYED, ["wants", "2 hold"], ["cycle", 7], ["word", "promote"], ["wants", "2"], ["cycle", 14]]),
    "roll back": ("1", [DEPLOYED, ["wants", "2"], ["cycle", 5], ["word", "rollback"], ["cycle", 7]]),
    "roll back of a promotion": ("1", [DEPLOYED, ["wants", "2"], ["cycle", 10], ["word", "rollback"], ["cycle", 10]]),
    "roll back while watched": ("1", [DEPLOYED, ["wants", "2"], ["cycle", 15], ["word", "rollback"], ["cycle", 12]]),
    "overtaken": ("1", [DEPLOYED, ["wants", "2"], ["cycle", 5], ["wants", "3"], ["cycle", 25]]),
    "the old one again": ("1", [DEPLOYED, ["wants", "2"], ["cycle", 15], ["wants", "1"], ["cycle", 12]]),
    "pause": (
        "1",
        [DEPLOYED, ["wants", "2"], ["cycle", 5], ["word", "pause"], ["cycle", 3], ["word", "resume"], ["cycle", 8]],
    ),
    "teardown": ("1 job", [["cycle", 7], ["word", "teardown"], ["cycle", 4], ["word", "deploy"], ["cycle", 8]]),
    "scale": ("1", [DEPLOYED, ["wants", "1 x3"], ["cycle", 6], ["wants", "1"], ["cycle", 6]]),
    "other limits": ("1", [DEPLOYED, ["wants", "1 strict"], ["cycle", 6]]),
    "other policy in a rollout": ("1", [DEPLOYED, ["wants", "2"], ["cycle", 5], ["wants", "2 strict"], ["cycle", 18]]),
    "worker": ("1 job", [["cycle", 7], ["wants", "2 job"], ["cycle", 20]]),
    "service leaves": ("1 shop job", [["cycle", 7], ["wants", "1"], ["cycle", 6]]),
    "service comes": ("1", [DEPLOYED, ["wants", "1 shop"], ["cycle", 7]]),
    "other port": ("1", [DEPLOYED, ["wants", "1 port"], ["cycle", 3], ["word", "deploy over"], ["cycle", 5]]),
    "policy away": (
        "1",
        [DEPLOYED, ["wants", "2"], ["cycle", 5], ["opa", "down"], ["cycle", 12], ["opa", "well"], ["cycle", 14]],
    ),
    "patient": ("1", [DEPLOYED, ["wants", "2 patient"], ["cycle", 26]]),
    "policy away for a moment": (
        "1",
        [DEPLOYED, ["wants", "2 patient"], ["cycle", 4], ["opa", "down"], ["cycle", 4], ["opa", "well"], ["cycle", 20]],
    ),
    "policy away for good": ("1", [DEPLOYED, ["wants", "2"], ["cycle", 5], ["opa", "down"], ["cycle", 16]]),
    "not admitted": (
        "1",
        [DEPLOYED, ["opa", "deny"], ["wants", "2"], ["cycle", 3], ["opa", "well"], ["cycle", 18]],
    ),
    "no room to begin": (
        "1",
        [DEPLOYED, ["opa", "full"], ["wants", "2"], ["cycle", 3], ["opa", "well"], ["cycle", 18]],
    ),
    "overtaken early": ("1", [DEPLOYED, ["wants", "2"], ["cycle", 4], ["wants", "3"], ["cycle", 25]]),
    "roll back as it is promoted": (
        "1",
        [
            DEPLOYED,
            ["wants", "2"],
            ["cycle", 6],
            ["fault", 4, "lost"],
            ["cycle", 1],
            ["word", "rollback"],
            ["cycle", 9],
        ],
    ),
    "canary hangs for long": (
        "1",
        [
            DEPLOYED,
            ["wants", "2"],
            ["cycle", 4],
            ["docker pause", 3],
            ["cycle", 20],
            ["docker unpause", 0],
            ["cycle", 3],
        ],
    ),
    "carrier fails for long": (
        "1",
        [DEPLOYED, ["wants", "2"], ["cycle", 8], ["sick", "demo:2"], ["cycle", 18], ["sick"], ["cycle", 6]],
    ),
    "new ones crash": (
        "1",
        [
            DEPLOYED,
            ["wants", "2"],
            ["cycle", 10],
            *[each for _ in range(6) for each in (["kill", 3, 1], ["cycle", 1])],
            ["cycle", 3],
            ["word", "retry"],
            ["cycle", 12],
        ],
    ),
    "a replica comes late": ("1 x2", [DEPLOYED, ["wants", "2 x2"], ["fault", 9, "failed"], ["cycle", 20]]),
    "rolling to what is not well": (
        "1 x2",
        [["sick", "demo:2"], ["cycle", 8], ["wants", "2 rolling x2"], ["cycle", 28]],
    ),
    "condemned as stable comes back": (
        "1",
        [
            DEPLOYED,
            ["wants", "2"],
            ["cycle", 5],
            ["rm", 1],
            ["cycle", 1],
            ["opa", "rollback"],
            ["cycle", 6],
            ["opa", "well"],
            ["cycle", 2],
        ],
    ),
    "fewer while one hangs": (
        "1 x2",
        [
            DEPLOYED,
            ["docker pause", 1],
            ["cycle", 8],
            ["wants", "1"],
            ["cycle", 8],
            ["docker unpause", 0],
            ["cycle", 4],
        ],
    ),
    "one of two hangs": (
        "1 x2",
        [DEPLOYED, ["docker pause", 2], ["cycle", 18], ["docker unpause", 0], ["cycle", 3]],
    ),
    "teardown while the engine is away": (
        "1",
        [
            DEPLOYED,
            ["engine down", 1],
            ["word", "teardown"],
            ["restart"],
            ["cycle", 1],
            ["engine down", 0],
            ["cycle", 4],
        ],
    ),
    "state disk runs full": (
        "1",
        [DEPLOYED, ["full", "state"], ["cycle", 1], ["wants", "2"], ["cycle", 4], ["disk", 0], ["cycle", 18]],
    ),
    "state disk runs full in a rollout": (
        "1",
        [DEPLOYED, ["wants", "2"], ["cycle", 4], ["full", "state"], ["cycle", 6], ["disk", 0], ["cycle", 18]],
    ),
    "reboot": ("1", [DEPLOYED, ["reboot"], ["cycle", 5]]),
}
MAIN = (
    "first deployment",
    "update",
    "bad canary",
    "roll back while watched",
    "teardown",
    "scale",
    "rolling",
    "recreate",
)


def units(steps: list[Step]) -> list[Step]:
    """The same steps with one cycle in each that has any."""
    found: list[Step] = []
    for step in steps:
        found += [["cycle", 1]] * step[1] if step[0] == "cycle" else [step]
    return found


@functools.cache
def stages(name: str) -> tuple[World, ...]:
    """The world before each unit of a scenario and after the last one; to be cloned, never to be used."""
    first, steps = SCENARIOS[name]
    world = World(first)
    found = [world.clone()]
    for step in units(steps):
        happen(world, step)
        found.append(world.clone())
    return tuple(found)
