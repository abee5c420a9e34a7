"""Fixed addresses: in our network, outside Docker's part, free, and not the one just given up."""

from __future__ import annotations

import itertools
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.addresses import RESERVED, pick_address

UNHURRIED = settings(deadline=None, max_examples=50)

SUBNET, RANGE = "10.9.0.0/22", "10.9.3.0/24"
SMALL, SMALL_RANGE = "10.9.0.0/27", "10.9.0.16/28"
ALL_SMALL = [f"10.9.0.{host}" for host in range(RESERVED, 16)]


@UNHURRIED
@given(st.text(), st.sets(st.integers(0, 1023).map(lambda n: str(IPv4Address(f"10.9.{n // 256}.{n % 256}")))))
def test_an_address_is_ours_to_give_and_free(name: str, taken: set[str]) -> None:
    found = pick_address(SUBNET, RANGE, taken, name)
    if found is not None:
        address = IPv4Address(found)
        assert address in IPv4Network(SUBNET)
        assert address not in IPv4Network(RANGE)
        assert found not in taken
        assert int(address) >= int(IPv4Network(SUBNET).network_address) + RESERVED
        assert address != IPv4Network(SUBNET).broadcast_address


@UNHURRIED
@given(st.sets(st.sampled_from(ALL_SMALL)), st.text())
def test_the_last_free_address_is_found_and_none_when_there_is_none(taken: set[str], name: str) -> None:
    found = pick_address(SMALL, SMALL_RANGE, taken, name)
    assert (found in set(ALL_SMALL) - taken) if set(ALL_SMALL) - taken else found is None


def test_the_same_name_gets_the_same_address() -> None:
    assert pick_address(SUBNET, RANGE, (), "a") == pick_address(SUBNET, RANGE, (), "a")


@pytest.mark.fault("I8")
def test_generations_of_one_service_do_not_follow_each_other_at_one_address() -> None:
    found = [pick_address(SUBNET, RANGE, (), f"demo-app-blue-086d454b-0-g{number}") for number in range(40)]
    assert sum(first == second for first, second in itertools.pairwise(found)) <= 4
