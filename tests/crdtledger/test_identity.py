"""Digests: what is hashed together is hashed alike."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from crdtledger.ledger.identity import digest, digest_each, sized

PARTS = st.lists(st.binary(max_size=300), max_size=4)


@given(st.text(max_size=9), st.lists(PARTS, max_size=5))
def test_many_digests_are_the_digests_of_each(domain: str, things: list[list[bytes]]) -> None:
    told = [b"".join(map(sized, parts)) for parts in things]
    assert digest_each(domain, told) == [digest(domain, *parts) for parts in things]


def test_a_digest_is_sha_256_of_its_domain_and_every_part_behind_its_length() -> None:
    plain = b"crdtledger/what/v1\x00" + (2).to_bytes(8, "little") + b"ab" + bytes(8)
    assert digest("what", b"ab", b"") == hashlib.sha256(plain).digest()
