"""What a link says of delays and silence: measured while it lives, open-ended when it is parted, and wiser after each partition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crdtledger.matching.lifetable import LifeTable
from crdtledger.matching.links import SAMPLES, Link
from crdtledger.matching.survival import Survival

BEAT_US, DELAY_US = 50_000, 20_000


def lively() -> Link:
    link = Link()
    for beat in range(100):
        link.heard(beat * BEAT_US, beat * BEAT_US + DELAY_US)
    for _ in range(SAMPLES):
        link.round_trip.add(2 * DELAY_US)
    return link


def test_a_live_link_reaches_in_half_a_round_trip() -> None:
    link = lively()
    now_us = link.heard_us + BEAT_US
    assert link.reach_us(now_us) == (DELAY_US,) * 4
    assert link.age_us(now_us) == DELAY_US + BEAT_US
    assert link.silence(now_us) == 1.0


@given(st.integers(3, 10_000), st.integers(2, 10))
def test_the_longer_a_silence_the_longer_it_is_expected_to_last(beats: int, factor: int) -> None:
    link = lively()
    sooner = link.reach_us(link.heard_us + beats * BEAT_US)
    later = link.reach_us(link.heard_us + factor * beats * BEAT_US)
    assert all(one < other for one, other in zip(sooner, later, strict=True))
    assert sooner[0] > DELAY_US


def test_past_partitions_say_how_long_one_lasts() -> None:
    naive, wise = lively(), lively()
    for _ in range(20):
        at_us = wise.heard_us + 2_000_000
        wise.heard(at_us - DELAY_US, at_us)
        for _ in range(20):
            wise.heard(wise.upto_us + BEAT_US, wise.heard_us + BEAT_US)
    parted_us = 5 * BEAT_US
    assert len(wise.outages) == 20
    assert max(naive.reach_us(naive.heard_us + parted_us)) < 1_800_000
    assert sorted(wise.reach_us(wise.heard_us + parted_us))[1] > 1_700_000, "most of two seconds is still to come"


def test_a_life_table_finds_the_rate_at_which_orders_end() -> None:
    table = LifeTable(half_life_us=1 << 60)
    for number in range(4_000):  # uniform lives up to one second: the rate at half a second is 2 a second
        table.lived(250 * number, "cancel" if number % 4 else "consume", 1)
    hazard = table.hazard(500_000, 50_000.0)
    assert 0.8 * 0.1 < hazard.cancel + hazard.consume < 1.3 * 0.1
    assert 2.0 < hazard.cancel / hazard.consume < 4.5


def test_what_a_life_table_saw_long_ago_is_forgotten() -> None:
    table = LifeTable(half_life_us=1_000_000)
    for number in range(1_000):
        table.lived(1_000, "cancel", number)
    before = table.hazard(0, 1_000.0).cancel
    table.lived(10_000_000, "ours", 20_000_000)
    assert table.hazard(0, 1_000.0).cancel < before / 20


def test_figures_are_fresher_than_their_age_while_links_live_and_age_with_a_partition() -> None:
    survival = Survival()
    for peer in "ab":
        for beat in range(200):
            survival.recorded(peer, beat * BEAT_US, beat * BEAT_US + DELAY_US)
    last_us = 199 * BEAT_US + DELAY_US
    assert survival.fresh_us(0.99, last_us) <= DELAY_US
    parted_us = 10_000_000
    for beat in range(200, 400):
        survival.recorded("a", beat * BEAT_US, beat * BEAT_US + DELAY_US)
    stale_us = survival.fresh_us(0.99, last_us + parted_us)
    assert 0.95 * parted_us < stale_us <= parted_us + DELAY_US, (
        "b is cut off, and recorded twenty facts a second before"
    )
    assert survival.fresh_us(0.5, last_us + parted_us) < stale_us
