"""Random samples of documents, by cluster and stratum."""

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redundancy_eval.statistics import sampling

documents = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["", "x", "y"])), min_size=1, max_size=60)


def drawn(found, count, seed=0):
    return sampling.sample(*zip(*found, strict=True), count, seed, "task").tolist()


@settings(deadline=None)
@given(documents, st.integers(1, 70), st.integers(0, 5), st.integers(0, 3))
def test_a_larger_sample_holds_the_smaller(found, count, more, seed):
    small, large = drawn(found, count, seed), drawn(found, count + more, seed)
    assert set(small) <= set(large) and small == sorted(set(small))
    order = sampling.order(*zip(*found, strict=True), seed, "task").tolist()
    assert sorted(order) == list(range(len(found))) and set(order[: len(small)]) == set(small)


@settings(deadline=None)
@given(documents, st.integers(1, 70))
def test_clusters_are_whole_and_the_last_is_needed(found, count):
    chosen = drawn(found, count)
    taken = Counter(found[place] for place in chosen)
    assert taken == {own: number for own, number in Counter(found).items() if own in taken}
    wanted = min(count, len(found))
    last = sampling.order(*zip(*found, strict=True), 0, "task")[len(chosen) - 1]
    assert wanted <= len(chosen) < wanted + taken[found[last]]


@settings(deadline=None)
@given(documents)
def test_all_where_there_are_no_more(found):
    assert drawn(found, len(found)) == drawn(found, 10**9) == list(range(len(found)))


@settings(deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=8), st.floats(0.01, 1))
def test_strata_have_their_share(sizes, part):
    strata = np.repeat([f"s{number}" for number in range(len(sizes))], sizes)
    count = max(len(sizes), int(part * len(strata)))
    chosen = sampling.sample(np.arange(len(strata)), strata, count)
    assert len(chosen) == count
    counts = np.array([np.sum(strata[chosen] == f"s{number}") for number in range(len(sizes))])
    shares = count * np.array(sizes) / len(strata)
    assert (counts > 0).all()
    assert (counts < shares + 1.5 + len(sizes) / 2).all() and (counts > shares - 1.5 - len(sizes) / 2).all()


@settings(deadline=None)
@given(documents)
def test_no_stratum_is_empty_where_there_is_room(found):
    strata = {stratum for _, stratum in found}
    largest = max(Counter(found).values())
    chosen = drawn(found, len(strata) * largest)
    assert {found[place][1] for place in chosen} == strata


def test_every_document_is_drawn_about_as_often_as_any_other():
    clusters, strata = np.arange(60) // 2, np.repeat(["x", "y"], [20, 40])
    often = np.zeros(60)
    for seed in range(600):
        often[sampling.sample(clusters, strata, 12, seed)] += 1
    assert often[:20].mean() == often[20:].mean() == 120  # each stratum a fifth, every time
    assert abs(often - 120).max() < 50  # 5 standard errors of a count are 49


def test_names_and_seeds_draw_differently():
    plain = [np.arange(300), np.zeros(300)]
    first = set(sampling.sample(*plain, 60).tolist())
    for other in (sampling.sample(*plain, 60, 1), sampling.sample(*plain, 60, 0, "other")):
        assert len(first & set(other.tolist())) < 30  # 12 expected


CODE = "from redundancy_eval.statistics import sampling as s; print(s.sample([f'i{n//3}' for n in range(40)], "
CODE += "['a', 'b'] * 20, 9, 7, 'bench').tolist())"


@pytest.mark.parametrize("hashing", ["0", "1"])
def test_the_same_everywhere(hashing):
    """A sample that was drawn once is drawn for ever: stored answers and published numbers rest on it."""
    told = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, env={"PYTHONHASHSEED": hashing}, check=True
    )
    assert told.stdout.decode().strip() == "[3, 5, 6, 8, 24, 25, 26, 33, 35]"


def test_nothing_of_nothing():
    assert sampling.sample([], [], 5).tolist() == [] == sampling.order([], []).tolist()
