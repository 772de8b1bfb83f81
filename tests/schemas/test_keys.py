"""Record keys and their sums."""

import hashlib

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from provenance.keys import add_sums, key_sums, record_key


def as_halves(ids: list[str]) -> npt.NDArray[np.uint64]:
    return np.frombuffer(b"".join(record_key(i) for i in ids), dtype="<u8").reshape(-1, 2)


def test_a_key_is_blake2b_of_the_utf8_id() -> None:
    assert record_key("é") == hashlib.blake2b("é".encode(), digest_size=16).digest()
    assert len(record_key("")) == 16


@given(st.lists(st.text(max_size=5), max_size=30), st.integers(0, 30))
def test_sums_of_parts_add_up_in_any_order(ids: list[str], cut: int) -> None:
    parts = [key_sums(as_halves(ids[:cut])), key_sums(as_halves(ids[cut:]))]
    assert add_sums(parts) == key_sums(as_halves(ids[::-1]))
    exact = [sum(int.from_bytes(record_key(i)[h : h + 8], "little") for i in ids) % 2**64 for h in (0, 8)]
    assert key_sums(as_halves(ids)) == tuple(exact)


def test_a_lost_a_repeated_and_a_foreign_row_all_show() -> None:
    ids = [f"record-{n}" for n in range(1000)]
    whole = key_sums(as_halves(ids))
    assert key_sums(as_halves(ids[:-1])) != whole
    assert key_sums(as_halves([*ids[:-1], ids[0]])) != whole
    assert key_sums(as_halves([*ids[:-1], "foreign"])) != whole
