"""The pytest plugin: the fixture ``cluster``, and its marker.

    @pytest.mark.cluster(nodes=3, seed=7)
    def test_mine(cluster):
        cluster.record("n0", {"kind": "account", "name": "A"})

The fixture is a ``Watched`` cluster; when the test is over, and has not failed, it is healed and must agree. pytest loads this module
whenever it runs, so nothing is imported here that it has not loaded itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from crdtledger.testing.watched import Watched

MARKER = (
    "cluster(nodes=4, seed=0, faults=None, agreement=False, **options): "
    "the simulated cluster that the fixture of this name gives, see crdtledger.testing.Watched"
)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", MARKER)


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[Watched]:
    """A simulated cluster of real node cores, as the marker ``cluster`` says. In the end it is healed, must agree, and is checked."""
    from crdtledger.testing.watched import Watched

    marks = list(request.node.iter_markers("cluster"))
    if any(mark.args for mark in marks):
        raise pytest.UsageError("the marker cluster takes options by name: cluster(nodes=4, seed=7)")
    options = {
        name: value for mark in reversed(marks) for name, value in mark.kwargs.items()
    }  # the nearest has the last word
    try:
        made = Watched(**options)
    except TypeError as error:
        raise pytest.UsageError(f"the marker cluster: {error}") from None
    failed = request.session.testsfailed
    yield made
    if request.session.testsfailed == failed:
        made.conclude()
