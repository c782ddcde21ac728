"""Documents that stand for a data set."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from redundancy_eval.statistics import draws


@given(st.integers(0, 400), st.integers(1, 60))
def test_one_document_of_each_stretch(total, count):
    chosen = draws.stretches(total, count, "task")
    assert chosen == sorted(set(chosen)) == draws.stretches(total, count, "task")
    assert len(chosen) == min(total, count) and all(0 <= place < total for place in chosen)
    if total > count:
        assert all(i * total // count <= place < (i + 1) * total // count for i, place in enumerate(chosen))


def test_they_do_not_stand_at_one_distance():
    chosen = draws.stretches(240, 40, "task")
    assert len({b - a for a, b in pairwise(chosen)}) > 3 and len({x % 6 for x in chosen}) > 3
