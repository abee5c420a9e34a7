"""What makes a schedule quick without touching the product: pure functions are remembered, and there are no threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from reconciler import executor, measuring
from reconciler.core.desired import DesiredState
from reconciler.core.evidence import summary
from reconciler.core.rollout import Rollout
from reconciler.core.targets import Targets
from reconciler.formats import compose, cycle_record, nginx, rendered
from tests.sim import remembered

_VIEWS: dict[tuple[Any, ...], rendered.View] = {}
_COMPOSED: dict[tuple[compose.ComposeView, str], Any] = {}


def render(desired: DesiredState, targets: Targets, rollout: Rollout, *rest: Any) -> rendered.View:
    """`rendered.render`, asked once for everything that its answer can depend on."""
    states = tuple(
        (name, s.phase, s.serving, s.stable, s.candidate, s.fresh, s.kept, s.course, s.blue, s.green)
        for name, s in rollout.services.items()
    )
    revisions = tuple(policy.revision for policy in targets.policies)
    key = (desired.revision, tuple(targets.wanted.items()), tuple(sorted(targets.kept)), revisions, states, rest)
    view = _VIEWS.get(key)
    if view is None:
        if len(_VIEWS) > 20_000:
            _VIEWS.clear()
        view = _VIEWS[key] = _rendered(desired, targets, rollout, *rest)
    return view


def _rendered(*asked: Any) -> rendered.View:
    """Rendered without nginx's text being read back (tests/formats does that), and with Compose's text remembered."""
    verify, nginx.verify = nginx.verify, lambda *_: None
    try:
        return rendered._rendered(*asked)
    finally:
        nginx.verify = verify


_compose = rendered._composed


def _composed(view: compose.ComposeView, folder: str) -> Any:
    known = _COMPOSED.get((view, folder))
    if known is None:
        known = _COMPOSED[view, folder] = _compose(view, folder)
    return known


@contextmanager
def quickened() -> Iterator[None]:
    """While it lasts, the product runs without threads, remembers what it rendered, and leaves out what people read.

    That is how many requests a proof still needs, and the summary of evidence as JSON: tests/core has them.
    """
    kept = [getattr(module, name) for module, name, _ in _CHANGED]
    for module, name, instead in _CHANGED:
        setattr(module, name, instead)
    try:
        yield
    finally:
        for (module, name, _), was in zip(_CHANGED, kept, strict=True):
            setattr(module, name, was)


def _counts_only(found: summary.Summary) -> dict[str, Any]:
    return {"requests": {"canary": found.requests, "baseline": found.baseline_requests}}


def forget() -> None:
    """The product was changed: nothing that it once answered counts any more."""
    _VIEWS.clear()
    _COMPOSED.clear()
    remembered.forget()


class Task:
    """One effect that a plan may carry out; it is carried out when somebody waits for it."""

    __slots__ = ("pool", "value", "work")

    def __init__(self, pool: SimPool, work: Callable[[], Any]) -> None:
        self.pool, self.work, self.value = pool, work, None

    def result(self) -> Any:
        return self.value


class SimPool(ThreadPoolExecutor):
    """A pool without threads: what could run side by side runs one by one, as `turn` chooses (0: in order)."""

    def __init__(self, turn: int = 0) -> None:
        self.turn = turn

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> Task:  # type: ignore[override]
        return Task(self, lambda: fn(*args))


def wait(tasks: Iterable[Task], return_when: str = "") -> tuple[list[Task], list[Task]]:
    """As concurrent.futures.wait: one of `tasks` is carried out."""
    waiting = list(tasks)
    pool = waiting[0].pool
    if pool.turn:
        pool.turn = (pool.turn * 1103515245 + 12345) & 0x7FFFFFFF or 1
    chosen = waiting.pop((pool.turn >> 8) % len(waiting))
    chosen.value = chosen.work()
    return [chosen], waiting


_CHANGED: tuple[tuple[Any, str, Any], ...] = (
    (executor, "wait", wait),
    (rendered, "render", render),
    (rendered, "_composed", _composed),
    (summary, "_needs", lambda *_: summary.Needs(None, None)),
    (measuring, "as_json", _counts_only),
    (cycle_record, "as_json", _counts_only),
    *remembered.CHANGED,
)
