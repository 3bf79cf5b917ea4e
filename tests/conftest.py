"""Hypothesis profiles: no deadlines (the machine is shared), and every failure prints how to play it again.

``HYPOTHESIS_PROFILE=thorough`` runs each property many times more. ``mutants`` is for runs of the suite by the hundred: the same few
examples every time, for properties that ask for more of their own, too, and the first failure is enough.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings

_CALM = (HealthCheck.too_slow, HealthCheck.data_too_large)
_PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")

settings.register_profile("ci", deadline=None, print_blob=True, max_examples=60, suppress_health_check=_CALM)
settings.register_profile("thorough", deadline=None, print_blob=True, max_examples=2_000, suppress_health_check=_CALM)
settings.register_profile(
    "mutants",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=12,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=_CALM,
)
settings.load_profile(_PROFILE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under ``mutants`` no property gets more examples than the profile has, whatever it asks for."""
    most = settings.get_profile("mutants").max_examples
    for item in items if _PROFILE == "mutants" else ():
        test = getattr(item, "obj", None)
        asked = getattr(test, "_hypothesis_internal_use_settings", None)
        if asked is not None and asked.max_examples > most:
            test._hypothesis_internal_use_settings = settings(asked, max_examples=most)
