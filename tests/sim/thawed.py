"""The product's frozen values without their ice: a quarter of a schedule's time went into making them.

A frozen dataclass sets each field through `object.__setattr__`, some four times as slow as a plain store. While
`thawed` lasts, the classes are as they would be without `frozen=True`: equal, hashed and printed alike. That nothing
changes them is what the type checker and all other tests see to.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_GUARDS = ("__setattr__", "__delattr__", "__init__")


@contextmanager
def thawed() -> Iterator[None]:
    """While it lasts, the product's values are made as plainly as can be."""
    kept = [(kind, {name: kind.__dict__[name] for name in _GUARDS}) for kind in _frozen()]
    for kind, _ in kept:
        del kind.__setattr__, kind.__delattr__
        kind.__init__ = _plain_init(kind)
    try:
        yield
    finally:
        for kind, guards in kept:
            for name, was in guards.items():
                setattr(kind, name, was)


def is_thawed(kind: type) -> bool:
    """Fields of its values may be stored plainly at present."""
    return "__setattr__" not in kind.__dict__


def _frozen() -> list[Any]:
    modules = [module for name, module in sys.modules.items() if name.startswith("reconciler.")]
    kinds = {kind for module in modules for kind in vars(module).values() if isinstance(kind, type)}
    return [kind for kind in kinds if kind.__module__.startswith("reconciler.") and _is_plain(kind)]


def _is_plain(kind: Any) -> bool:
    """Frozen, with nothing but fields that are given when it is made; and all guards its own."""
    parameters = kind.__dict__.get("__dataclass_params__")
    if parameters is None or not parameters.frozen or not all(name in kind.__dict__ for name in _GUARDS):
        return False
    return all(field.init and not field.kw_only for field in dataclasses.fields(kind))


def _plain_init(kind: Any) -> Callable[..., None]:
    known: dict[str, Any] = {"_none_given": object()}
    asked, stored = ["self"], []
    for field in dataclasses.fields(kind):
        name, value = field.name, field.name
        if field.default is not dataclasses.MISSING:
            known[f"_default_{name}"] = field.default
            asked.append(f"{name}=_default_{name}")
        elif field.default_factory is not dataclasses.MISSING:
            known[f"_make_{name}"] = field.default_factory
            asked.append(f"{name}=_none_given")
            value = f"_make_{name}() if {name} is _none_given else {name}"
        else:
            asked.append(name)
        stored.append(f"self.{name} = {value}")
    if hasattr(kind, "__post_init__"):
        stored.append("self.__post_init__()")
    exec(f"def __init__({', '.join(asked)}):\n " + "\n ".join(stored or ["pass"]), known)
    made: Callable[..., None] = known["__init__"]
    return made
