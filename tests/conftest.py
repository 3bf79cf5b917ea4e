"""Hypothesis profiles: no deadlines (the machine is shared), and every failure prints how to play it again.

``HYPOTHESIS_PROFILE=thorough`` runs each property many times more.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

_CALM = (HealthCheck.too_slow, HealthCheck.data_too_large)

settings.register_profile("ci", deadline=None, print_blob=True, max_examples=60, suppress_health_check=_CALM)
settings.register_profile("thorough", deadline=None, print_blob=True, max_examples=2_000, suppress_health_check=_CALM)
settings.register_profile(
    "mutants",  # the same few examples every time, and the first failure is enough
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=12,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=_CALM,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
