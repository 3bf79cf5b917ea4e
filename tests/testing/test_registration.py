"""Hypothesis finds the strategies by itself, and nobody pays for them who does not ask."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = "numpy', 'pycrdt', 'msgspec', 'nacl', 'zmq', 'crdtledger.testing.strategies"


def printed(code: str) -> str:
    """What a fresh interpreter prints that treats warnings as errors."""
    command = [sys.executable, "-W", "error", "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_types_are_drawn_with_nothing_of_the_kit_imported() -> None:
    code = """
from hypothesis import Phase, find, settings, strategies as st
from crdtledger import Genesis, Ledger, Policies, facts
from crdtledger.ledger.batch import Batch
from crdtledger.ledger.genesis import Asset, Member
S = settings(max_examples=200, database=None, phases=[Phase.generate])
wanted = [Genesis, Policies, Member, Asset, Batch, Ledger, *facts.KIND_OF]
for kind in wanted:
    assert isinstance(find(st.from_type(kind), lambda one: True, settings=S), kind), kind
assert find(st.from_type(facts.Fact), lambda one: isinstance(one, facts.Fill), settings=S)
assert find(st.lists(st.from_type(facts.Grant), min_size=1), lambda one: True, settings=S)[0].node != "n0"
print(len(wanted))
"""
    assert int(printed(code)) > 15


def test_a_user_of_hypothesis_alone_loads_nothing_heavy() -> None:
    use = "import sys, hypothesis.strategies as st; st.from_type(int).validate()"
    assert printed(f"{use}; print(sorted({{'{HEAVY}'}} & sys.modules.keys()))") == "[]"


def test_where_hypothesis_keeps_no_lazy_list_types_are_registered_in_the_open() -> None:
    code = """
import os
os.environ["HYPOTHESIS_NO_PLUGINS"] = "1"
import hypothesis.strategies as st
from hypothesis.strategies._internal import types
held = types._global_extra_lookup
del types._global_extra_lookup
from crdtledger.testing.registration import register
register()
types._global_extra_lookup = held
from crdtledger.facts import Fill
print(Fill in types._global_type_lookup)
"""
    assert printed(code.replace("from crdtledger.facts", "from crdtledger.ledger.facts")) == "True"


@pytest.mark.parametrize("name", ["Crdt", "strategies", "ClusterMachine", "Watched"])
def test_the_kit_itself_is_loaded_name_by_name(name: str) -> None:
    code = f"import sys, crdtledger.testing as kit; print(sorted({{'{HEAVY}'}} & sys.modules.keys())); kit.{name}"
    assert printed(code) == "[]"
