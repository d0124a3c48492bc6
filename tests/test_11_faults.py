"""Parts fail while people use the service: what they see, for how long, and that nothing is lost.

The quick half of the faults; `bench/faults.py` tries all of them and prints the table.
"""

from __future__ import annotations

import pytest
from endtoend.faults import FAULTS, HEADER, Fault, measure
from endtoend.people import Person, crowd, until_steady
from endtoend.stack import Stack

pytestmark = pytest.mark.e2e

QUICK = [fault for fault in FAULTS if fault.quick]


@pytest.fixture(scope="module")
def people(request: pytest.FixtureRequest) -> list[Person]:
    """Eight people who are logged in, the same for all faults."""
    stack: Stack = request.getfixturevalue("cloud")
    request.getfixturevalue("deployed")
    until_steady(Person(stack.url))
    print(f"\n{HEADER}")
    return crowd(stack, 8)


@pytest.mark.parametrize("fault", QUICK, ids=lambda fault: fault.name)
def test_a_part_fails(cloud: Stack, people: list[Person], fault: Fault) -> None:
    fleet = cloud.in_service()
    row = measure(cloud, people, fault)
    print(f"\n{row}")
    # Refused in words that a client can act on; nobody is left without an answer.
    assert row.problems <= {"status 503"}
    assert row.slowest < fault.slowest
    assert row.recovery < fault.recovery
    # People get a page in their language, or are served.
    status, text = row.page
    assert status in (200, 503)
    assert status == 200 or ('id="message"' in text and 'lang="ko"' in text)
    assert cloud.in_service() == fleet
