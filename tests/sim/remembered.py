"""Pure functions of the product, asked once for each thing that they are asked: most schedules ask the same.

Nothing here changes an answer. What is remembered is forgotten where the product is broken on purpose (`forget`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from reconciler import measuring
from reconciler.core import evidence as evidence_package
from reconciler.core import targets
from reconciler.core.desired import DesiredState
from reconciler.core.evidence import Evidence, Summary, baseline, statistics, summary
from reconciler.core.evidence.limits import Limits
from reconciler.core.planner import files
from reconciler.cycle import run, seeing
from reconciler.formats import policy
from tests.sim.thawed import is_thawed, thawed

MOST = 20_000
"""So many answers of one function are remembered before all of them are forgotten."""

MOST_EVIDENCE = 3_000
"""The same for evidence, which is large."""

_ANSWERS: list[dict[Any, Any]] = []


def _store() -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    _ANSWERS.append(made)
    return made


def forget() -> None:
    """The product was changed: nothing that it once answered counts any more."""
    for answers in _ANSWERS:
        answers.clear()


def by_value(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, remembered by its arguments, which are plain values in this order."""
    answers = _store()

    def ask(*asked: Any, **named: Any) -> Any:
        key = (asked, tuple(named.items())) if named else asked
        found = answers.get(key, answers)
        if found is answers:
            if len(answers) > MOST:
                answers.clear()
            found = answers[key] = function(*asked, **named)
        return found

    return ask


_measured, _summed, _targets = _store(), _store(), _store()


def measure(before: Evidence, canary: Mapping[str, Any], stable: Mapping[str, Any], limits: Limits, **rest: Any) -> Any:
    """`evidence.measure`: the same evidence and the same readings (themselves, not their like) say the same."""
    seen = (
        tuple((ref, id(each)) for ref, each in canary.items()),
        tuple((ref, id(each)) for ref, each in stable.items()),
    )
    key = (id(before), *seen, limits, *rest.values())
    found = _measured.get(key)
    if found is None:
        if len(_measured) > MOST_EVIDENCE:
            _measured.clear()
        held = (before, *canary.values(), *stable.values())  # as long as these live, nothing else has their identity
        found = _measured[key] = (_measure(before, canary, stable, limits, **rest), held)
    return found[0]


def summarise(what: Evidence, limits: Limits, now: float) -> Summary:
    """`evidence.summarise`, by the evidence itself."""
    key = (id(what), limits, now)
    found = _summed.get(key)
    if found is None:
        if len(_summed) > MOST_EVIDENCE:
            _summed.clear()
        found = _summed[key] = (_summarise(what, limits, now), what)
    answer: Summary = found[0]
    return answer


def make_targets(desired: DesiredState, images: Mapping[str, Any], stored: Any, layout: Any, policies: Any) -> Any:
    """`targets.make_targets`, by the manifest's revision, the images' and the kept revisions."""
    kept = tuple(stored)
    here = tuple((reference, image.id) for reference, image in images.items())
    revisions = tuple(each.revision for each in kept)
    key = (desired.revision, here, revisions, layout, tuple(each.revision for each in policies))
    found = _targets.get(key)
    if found is None:
        if len(_targets) > MOST:
            _targets.clear()
        found = _targets[key] = _make_targets(desired, images, kept, layout, policies)
    return found


_measure, _summarise, _make_targets = evidence_package.measure, evidence_package.summarise, targets.make_targets
_target = policy.target
_policies: dict[Any, Any] = _store()


def target(desired: DesiredState, image: Any, layout: Any) -> Any:
    """`policy.target`, by the manifest's revision and the image."""
    key = (desired.revision, image.id, layout)
    if key not in _policies:
        _policies[key] = _target(desired, image, layout)
    return _policies[key]


_MAKERS: dict[type, Callable[..., Any]] = {}
"""How one of a kind is made out of another; forgotten where the kinds are frozen or thawed."""


@contextmanager
def thawed_and_remade() -> Iterator[None]:
    """While it lasts, values are made as quickly as can be."""
    _MAKERS.clear()
    try:
        with thawed():
            yield
    finally:
        _MAKERS.clear()


def replace(changed: Any, /, **changes: Any) -> Any:
    """`dataclasses.replace`, without asking each time which fields there are."""
    make = _MAKERS.get(changed.__class__)
    if make is None:
        make = _MAKERS[changed.__class__] = _maker(changed.__class__)
    return make(changed, **changes)


def _maker(kind: type) -> Callable[..., Any]:
    fields = dataclasses.fields(kind)
    names = [field.name for field in fields if field.init]
    asked = ", ".join(f"{name}=_same" for name in names)
    values = {name: f"_old.{name} if {name} is _same else {name}" for name in names}
    if is_thawed(kind) and len(names) == len(fields) and not hasattr(kind, "__post_init__"):
        stored = "; ".join(f"_new.{name} = {value}" for name, value in values.items())
        body = f"_new = _blank(_kind); {stored}; return _new"
    else:
        body = f"return _kind({', '.join(f'{name}={value}' for name, value in values.items())})"
    known: dict[str, Any] = {"_same": object(), "_kind": kind, "_blank": object.__new__}
    exec(f"def make(_old, /, *, {asked}): {body}", known)
    made: Callable[..., Any] = known["make"]
    return made


CHANGED: tuple[tuple[Any, str, Any], ...] = (
    (dataclasses, "replace", replace),
    (evidence_package, "replace", replace),
    (statistics, "replace", replace),
    (baseline, "replace", replace),
    (measuring, "measure", measure),
    (measuring, "summarise", summarise),
    (run, "make_targets", make_targets),
    (seeing, "make_targets", make_targets),
    (policy, "target", target),
    (files, "sha256", by_value(files.sha256)),
    (summary, "confidence_sequence", by_value(statistics.confidence_sequence)),
    (statistics, "_log_sum", by_value(statistics._log_sum)),
)
