"""The order of the suite: what waits (containers) runs beside what computes, in every process alike."""

from __future__ import annotations

import pytest

SLICES = 12
"""Processes take the suite in equal contiguous parts: so many slices divide evenly among two, three or four of them."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("numprocesses", None) or hasattr(config, "workerinput"):
        items[:] = mixed(items)


def mixed(items: list[pytest.Item]) -> list[pytest.Item]:
    """The same tests: each slice has its share of the long ones, and begins with them or, every other slice, ends."""
    long = _units([item for item in items if _is_long(item)])
    short = [item for item in items if not _is_long(item)]
    order: list[pytest.Item] = []
    for at in range(SLICES):
        waiting = [item for unit in long[at::SLICES] for item in unit]
        computing = short[at * len(short) // SLICES : (at + 1) * len(short) // SLICES]
        order += computing + waiting if at % 2 else waiting + computing
    return order


def _units(items: list[pytest.Item]) -> list[list[pytest.Item]]:
    """Tests that share a fixture of their module stay together; all others are on their own."""
    units: dict[object, list[pytest.Item]] = {}
    for item in items:
        is_sharing = "module" in _scopes(item)
        units.setdefault(item.path if is_sharing else item, []).append(item)
    return list(units.values())


def _scopes(item: pytest.Item) -> set[str]:
    """Of the fixtures that the test uses."""
    found = item._fixtureinfo.name2fixturedefs if isinstance(item, pytest.Function) else {}
    return {definition.scope for definitions in found.values() for definition in definitions}


def _is_long(item: pytest.Item) -> bool:
    return item.get_closest_marker("engine") is not None or item.get_closest_marker("long") is not None
