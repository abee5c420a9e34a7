"""What can happen in a schedule, as data: a step is a list of a verb and its arguments, so that a file can hold it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reconciler.adapters.memory import Box
from reconciler.core.desired import PROXY
from reconciler.core.observed import Status
from reconciler.core.plan import CreateContainer
from reconciler.core.words import Deploy, Pause, Promote, Resume, Retry, Rollback, Teardown, Word
from tests.sim.world import World

Step = list[Any]

WORDS: dict[str, Callable[[], Word]] = {
    "deploy": Deploy,
    "deploy over": lambda: Deploy(allow_interruption=True),
    "teardown": Teardown,
    "promote": lambda: Promote("app", "ada", "it looks well"),
    "rollback": lambda: Rollback("app", "ada", "customers complain"),
    "pause": lambda: Pause("app", "ada", "lunch"),
    "resume": lambda: Resume("app", "ada"),
    "retry": lambda: Retry("app", "ada", "the database is back"),
}

DIRTY = frozenset({"errors", "slow", "metrics", "reset metrics"})
"""Verbs after which evidence is not what it would have been."""

BLAMING = DIRTY | {"sick", "kill", "stop", "rm", "disconnect", "docker pause", "kill nginx", "reboot", "power", "prune"}
BLAMING |= {"lose", "jump", "wait", "opa", "engine down", "rate", "stale", "nginx", "rmi", "disk", "full", "foreign"}
"""Verbs after which a release may have been given up, or may wait for a human, with good reason."""


def happen(world: World, step: Step) -> None:
    """Carry one step out."""
    verb, *args = step
    world.tell(f"-- {' '.join(map(str, step))}")
    world.is_dirty = world.is_dirty or verb in DIRTY
    world.may_blame = world.may_blame or verb in BLAMING or (verb == "word" and args[0] in ("rollback", "pause"))
    _VERBS[verb](world, *args)


def _cycles(world: World, count: int) -> None:
    for _ in range(count):
        world.cycle()


def _fault(world: World, ahead: int, kind: str) -> None:
    world.faults[world.effects + ahead] = kind


def _meddle(world: World, ahead: int, step: Step) -> None:
    world.meddlers[world.effects + ahead] = lambda world: happen(world, step)


def _word(world: World, word: str) -> None:
    world.cycle(WORDS[word]())


def _ours(world: World, index: int, *states: Status) -> Box | None:
    boxes = [box for box in world.engine.ours() if not states or box.status in states]
    return boxes[index % len(boxes)] if boxes else None


def _on(*states: Status) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A step that does something to one of our containers, by number; nothing where there is none."""

    def wrap(do: Callable[..., None]) -> Callable[..., None]:
        def act(world: World, index: int, *args: Any) -> None:
            box = _ours(world, index, *states)
            if box is not None:
                world.oracles.hurt(world)
                do(world, box, *args)
                world.settle()

        return act

    return wrap


@_on(Status.RUNNING)
def _kill(world: World, box: Box, code: int = 1) -> None:
    world.engine.crash(box.id, code, oom=code == 137)


@_on(Status.RUNNING)
def _stop(world: World, box: Box) -> None:
    world.engine.stop_by_hand(box, 0)


@_on(Status.EXITED, Status.CREATED)
def _start(world: World, box: Box) -> None:
    world.engine.start_by_hand(box)


@_on()
def _rm(world: World, box: Box) -> None:
    world.engine.destroy(box.id)


@_on(Status.RUNNING)
def _disconnect(world: World, box: Box) -> None:
    box.endpoints, box.fixed = {}, {}
    world.ever |= {"disconnected"}


@_on(Status.RUNNING)
def _docker_pause(world: World, box: Box) -> None:
    box.status = Status.PAUSED


@_on(Status.PAUSED)
def _docker_unpause(world: World, box: Box) -> None:
    box.status = Status.RUNNING


def _kill_proxy(world: World) -> None:
    for box in world.engine.ours(PROXY):
        if box.status is Status.RUNNING:
            world.engine.crash(box.id, 137)
    world.oracles.hurt(world)
    world.settle()


def _reboot(world: World) -> None:
    world.engine.reboot()
    world.oracles.hurt(world)
    world.settle()


def _power(world: World, lost: int) -> None:
    """The power goes: the host comes back, without what had not reached the disk."""
    world.files.lose_power(lost)
    _reboot(world)
    world.restart()


def _prune(world: World) -> None:
    world.engine.prune()
    world.oracles.hurt(world)


def _lose(world: World, name: str) -> None:
    """A file of the state directory is gone, and the daemon that knew it too."""
    world.store.disk.values.pop(name, None)
    world.ever |= {"lost"}
    if name == "rollout.json":
        world.oracles.forget(world)
    world.oracles.hurt(world)
    world.restart()


def _drift(world: World, index: int, text: str | None = None) -> None:
    """Somebody edits (or removes) a rendered file."""
    paths = sorted(world.files.texts)
    if paths:
        path = paths[index % len(paths)]
        if text is None:
            world.files.texts.pop(path)
        else:
            world.files.texts[path] = text


def _foreign(world: World, name: str) -> None:
    """Somebody else's container on our network, perhaps under a name that we would use."""
    nets = list(world.engine.networks.values())
    if nets and not any(box.name == name for box in world.engine.boxes.values()):
        request = CreateContainer(name, _foreign_spec(nets[0].name), None, (("com.example", "theirs"),))
        world.engine._create(request)
        world.engine.start_by_hand(world.engine.box(name))


def _foreign_spec(network: str) -> Any:
    from reconciler.core.container import ContainerSpec

    image = "sha256:theirs"
    return ContainerSpec("theirs", image, network=network)


def _opa(world: World, mode: str) -> None:
    world.opa = mode


def _metrics(world: World, mode: str) -> None:
    world.traffic.flow()
    world.traffic.mode = mode


def _sick(world: World, *images: str) -> None:
    world.traffic.flow()
    world.sick = frozenset(images)
    world.oracles.hurt(world)


def _errors(world: World, image: str, share: float) -> None:
    world.traffic.flow()
    world.traffic.errors[image] = share


def _slow(world: World, image: str, share: float) -> None:
    world.traffic.flow()
    world.traffic.slow[image] = share


def _rate(world: World, rate: float) -> None:
    world.traffic.flow()
    world.traffic.rate = rate


def _engine_down(world: World, is_down: int) -> None:
    world.engine.is_down = bool(is_down)


def _disk(world: World, is_full: int) -> None:
    world.store.disk.is_full = world.history.is_full = world.files.is_full = bool(is_full)


def _full(world: World, what: str) -> None:
    {"state": world.store.disk, "history": world.history, "rendered": world.files}[what].is_full = True


def _jump(world: World, seconds: float) -> None:
    world.clock.jumped += seconds
    world.oracles.hurt(world)


def _nginx(world: World, what: str, value: float) -> None:
    setattr(world.proxy, what, bool(value) if what == "hangs" else int(value) if what == "ignores" else value)


def _flags(world: World) -> None:
    world.proxy.weights = {}
    world.oracles.hurt(world)


def _host(world: World, known: int) -> None:
    world.host_is_known = bool(known)


def _order(world: World, turn: int) -> None:
    world.pool.turn = turn


def _lag(world: World, count: int) -> None:
    world.engine.lag = count


def _rmi(world: World, image: str) -> None:
    """Somebody removes an image; a registry has it."""
    found = world.engine.images.pop(image, None)
    if found is not None:
        world.engine.registry[image] = found


_VERBS: dict[str, Callable[..., None]] = {
    "cycle": _cycles,
    "wait": lambda world, seconds: world.passes(seconds),
    "jump": _jump,
    "fault": _fault,
    "meddle": _meddle,
    "wants": lambda world, words: world.wants(words),
    "half a manifest": lambda world: world.breaks_manifest(),
    "word": _word,
    "kill": _kill,
    "stop": _stop,
    "start": _start,
    "rm": _rm,
    "disconnect": _disconnect,
    "docker pause": _docker_pause,
    "docker unpause": _docker_unpause,
    "kill nginx": _kill_proxy,
    "reboot": _reboot,
    "power": _power,
    "prune": _prune,
    "restart": lambda world: world.restart(),
    "lose": _lose,
    "drift": _drift,
    "foreign": _foreign,
    "opa": _opa,
    "metrics": _metrics,
    "reset metrics": lambda world: world.traffic.reset(),
    "sick": _sick,
    "errors": _errors,
    "slow": _slow,
    "rate": _rate,
    "engine down": _engine_down,
    "disk": _disk,
    "full": _full,
    "nginx": _nginx,
    "flags lost": _flags,
    "host": _host,
    "order": _order,
    "stale": _lag,
    "rmi": _rmi,
}
