"""Staleness, held against the published figures of PBS and against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.matching.staleness import (
    Delays,
    PeerAge,
    complete,
    fresh,
    k_fresh,
    k_t_fresh,
    miss,
    monotonic,
    t_visibility,
    visible,
)

DRAWS = 200_000


def mixture(rng: np.random.Generator, share: float, scale: float, alpha: float, rate: float) -> np.ndarray:
    """Pareto with probability ``share``, exponential otherwise: the fits of PBS, table 3, in milliseconds."""
    shape = (DRAWS, 3)
    pareto = scale * (1.0 - rng.random(shape)) ** (-1.0 / alpha)
    return np.where(rng.random(shape) < share, pareto, rng.exponential(1.0 / rate, shape))


def linkedin(disk: bool) -> Delays:
    rng = np.random.default_rng(7)
    ssd = [mixture(rng, 0.9122, 0.235, 10.0, 1.66) for _ in range(4)]
    return Delays(mixture(rng, 0.38, 1.05, 1.51, 0.183) if disk else ssd[0], *ssd[1:])


@pytest.mark.parametrize(("k", "figure"), [(2, 0.5556), (3, 0.7037), (5, 0.8683), (10, 0.9827)])
def test_k_staleness_of_three_replicas_is_the_published_one(k: int, figure: float) -> None:
    assert k_fresh(3, 1, 1, k) == pytest.approx(figure, abs=5e-5)


@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 7))
def test_quorums_that_overlap_miss_nothing_and_others_may(n: int, r: int, w: int) -> None:
    if r > n or w > n:
        with pytest.raises(ValueError, match="do not fit"):
            miss(n, r, w)
        return
    assert (miss(n, r, w) == 0.0) == (r + w > n)
    assert monotonic(n, r, w, 0.0) == k_fresh(n, r, w, 1)


@pytest.mark.parametrize(
    ("disk", "at_once", "at_999_ms", "tolerance"), [(False, 0.974, 1.96, 0.05), (True, 0.439, 51.9, 0.08)]
)
def test_t_visibility_of_the_published_fits(disk: bool, at_once: float, at_999_ms: float, tolerance: float) -> None:
    delays = linkedin(disk)
    assert visible(delays, 1, 1, 0.0) == pytest.approx(at_once, abs=0.003)
    assert t_visibility(delays, 1, 1, 0.999) == pytest.approx(at_999_ms, rel=tolerance)
    if disk:
        assert visible(delays, 1, 1, 10.0) == pytest.approx(0.925, abs=0.003)


def test_one_replica_has_the_closed_form() -> None:
    """One replica, exponential writes and reads, no acks: visible at once with probability 1/2 + 1/2 (W <= R + A + t)."""
    rng = np.random.default_rng(3)
    nothing = np.zeros((DRAWS, 1))
    write, read = rng.exponential(1.0, (DRAWS, 1)), rng.exponential(1.0, (DRAWS, 1))
    late = Delays(write, nothing - write, read, nothing)  # the write returns at once: w_t = 0
    for t in (0.0, 0.5, 2.0):
        assert visible(late, 1, 1, t) == pytest.approx(1.0 - math.exp(-t) / 2.0, abs=0.005)
    assert t_visibility(late, 1, 1, 0.9) == pytest.approx(math.log(5.0), rel=0.03)


def test_a_quantile_answers_what_a_sweep_over_t_would() -> None:
    delays = linkedin(True)
    t = t_visibility(delays, 1, 1, 0.99)
    assert visible(delays, 1, 1, t) >= 0.99 > visible(delays, 1, 1, t * 0.999)
    assert t_visibility(delays, 2, 2, 0.999) == 0.0, "quorums that overlap see at once"


def test_k_and_t_together_end_in_each_alone() -> None:
    delays = linkedin(True)
    assert k_t_fresh(delays, 1, 1, 1, 3.0) == pytest.approx(visible(delays, 1, 1, 3.0))
    assert k_t_fresh(delays, 1, 1, 3, 3.0) > k_t_fresh(delays, 1, 1, 2, 3.0) > k_t_fresh(delays, 1, 1, 1, 3.0)


peers = st.builds(
    PeerAge,
    st.floats(0.0, 100.0),
    st.lists(st.floats(0.1, 50.0), max_size=8).map(sorted),
    st.floats(0.0, 2.0),
)


@given(st.lists(peers, max_size=4), st.floats(0.01, 0.999))
def test_fresh_is_the_least_t_at_its_probability_and_never_beyond_the_age(ages: list[PeerAge], p: float) -> None:
    t = fresh(ages, p)
    assert t <= max((peer.age for peer in ages), default=0.0)
    assert complete(ages, t) >= p
    assert t == 0.0 or complete(ages, t - 1e-6) <= p + 1e-6
    assert fresh([*ages, PeerAge(50.0, (), 1.0)], p) >= t, "a peer more makes no figure fresher"


@given(st.floats(1.0, 1000.0), st.floats(0.01, 1.0), st.floats(0.1, 0.99))
def test_a_peer_that_is_cut_off_has_the_closed_form_and_ages_with_it(age: float, rate: float, p: float) -> None:
    cut_off = [PeerAge(age, (), rate)]
    assert fresh(cut_off, p) == pytest.approx(max(0.0, age + math.log(p) / rate), abs=1e-6)
    assert fresh([PeerAge(age + 10.0, (), rate)], p) >= fresh(cut_off, p)


def test_the_share_that_is_complete_is_what_a_simulation_finds() -> None:
    """Facts at random times, delays drawn from the samples: how often nothing older than t is still missing."""
    rng = np.random.default_rng(5)
    delays, rate, age, t = np.sort(rng.exponential(2.0, 50)), 0.5, 20.0, 1.5
    clean = 0
    for _ in range(4_000):
        times = rng.random(rng.poisson(rate * age)) * age
        late = rng.choice(delays, len(times)) > times
        clean += not np.any(late & (times > t))
    assert complete([PeerAge(age, tuple(delays), rate)], t) == pytest.approx(clean / 4_000, abs=0.025)
