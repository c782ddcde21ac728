"""Divergence, attention and similarity by their definitions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from redundancy_eval.model_wrappers.diagnostics import attention, divergence, similarity

pytestmark = pytest.mark.models
SEEDS = st.integers(0, 2**16)


def logits(seed, tokens=3, words=7, scale=4.0):
    return scale * torch.randn(tokens, words, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=30, deadline=None)
@given(SEEDS, SEEDS, st.sampled_from([0.1, 4.0, 200.0]))
def test_divergences_have_their_bounds(one, other, scale):
    full, masked, ids = logits(one, scale=scale), logits(other, scale=scale), torch.tensor([0, 3, 6])
    found = divergence.along(full, masked, ids)
    assert found.kl >= 0 and found.reverse_kl >= 0 and found.surprise >= 0
    assert -1e-6 <= found.js <= 3 * math.log(2) + 1e-5
    back = divergence.along(masked, full, ids)
    assert back.kl == pytest.approx(found.reverse_kl) and back.js == pytest.approx(found.js, abs=1e-5)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.floats(-50, 50))
def test_a_model_does_not_diverge_from_itself(seed, shift):
    full = logits(seed)
    found = divergence.along(full, full.clone(), torch.tensor([0, 1, 2]))
    assert found.kl == found.reverse_kl == 0 and found.js == pytest.approx(0, abs=1e-6)
    # Logits are known up to a number that is added to all.
    assert divergence.along(full, full + shift, torch.tensor([0, 1, 2])).kl == pytest.approx(0, abs=1e-4)


def test_divergence_by_hand():
    p, q = np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.25, 0.5])
    full, masked = torch.tensor(np.log([p, p])), torch.tensor(np.log([q, p]))
    found = divergence.along(full, masked, torch.tensor([0, 2]))
    middle = (p + q) / 2
    assert found.kl == pytest.approx(float((p * np.log(p / q)).sum()), rel=1e-5)
    assert found.js == pytest.approx(float((p * np.log(p / middle) + q * np.log(q / middle)).sum() / 2), rel=1e-5)
    assert found.surprise == pytest.approx(-math.log(0.25) - math.log(0.25), rel=1e-6)


def test_a_word_that_is_ruled_out_adds_nothing():
    full = torch.tensor([[0.0, 0.0, -math.inf]])
    assert divergence.along(full, torch.zeros(1, 3), torch.tensor([0])).kl == pytest.approx(math.log(1.5), rel=1e-6)


def test_attention_kl_is_finite_where_half_precision_is_infinite():
    full, masked = torch.tensor([0.5, 0.5]), torch.tensor([1.0 - 1e-9, 1e-9])
    assert attention.infinite_in_half(full, masked) and not attention.infinite_in_half(masked, full)
    assert attention.kl(full, masked) == pytest.approx(0.5 * math.log(0.5) + 0.5 * math.log(0.5 / 1e-9), rel=1e-2)
    # A weight of exact zero counts as EPSILON.
    exact = attention.kl(full, torch.tensor([1.0, 0.0]))
    assert exact == pytest.approx(math.log(0.5) - 0.5 * math.log(attention.EPSILON), rel=1e-4)
    assert attention.js(full, masked) <= math.log(2) and attention.kl(full, full) == 0


def test_looks_are_shares_and_distributions():
    weights = torch.tensor([[[0.0, 0.2, 0.3, 0.5], [0.2, 0.2, 0.3, 0.3]], [[0.0, 0.5, 0.5, 0.0]] * 2])
    one, two = attention.looks(weights, torch.tensor([False, True, True, False]))
    assert one.mass == pytest.approx(0.5) and two.mass == pytest.approx(1.0)
    assert one.weights.tolist() == pytest.approx([0.4, 0.6]) and one.heads.shape == (2, 2)


def rows(seed, n=40, channels=5):
    return torch.tensor(np.random.default_rng(seed).normal(size=(n, channels)))


def cka(x, y, parts=3):
    sums = similarity.Pair()
    for a, b in zip(x.chunk(parts), y.chunk(parts), strict=True):
        sums.add(a, b)
    return sums.cka()


def by_the_book(x, y):
    """Song et al. 2012, equation 5, on whole kernel matrices."""
    n = len(x)
    k, own = x @ x.T, y @ y.T
    for each in (k, own):
        each.fill_diagonal_(0)
    one = torch.ones(n, dtype=x.dtype)

    def hsic(a, b):
        return (
            (a @ b).trace()
            + (one @ a @ one) * (one @ b @ one) / ((n - 1) * (n - 2))
            - 2 / (n - 2) * (one @ a @ b @ one)
        ) / (n * (n - 3))

    return float(hsic(k, own) / (hsic(k, k) * hsic(own, own)).sqrt())


@settings(max_examples=20, deadline=None)
@given(SEEDS, SEEDS)
def test_cka_is_the_textbook_s(one, other):
    x, y = rows(one) + 3, rows(other, channels=8)
    y[:, :3] += x[:, :3]
    found = cka(x, y)
    assert found == pytest.approx(by_the_book(x, y), abs=1e-9) and found <= 1 + 1e-9
    assert cka(y, x) == pytest.approx(found, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.floats(0.01, 100))
def test_cka_does_not_see_rotation_scale_and_shift(seed, scale):
    x = rows(seed)
    turn = torch.linalg.qr(rows(seed + 1, n=5))[0]
    assert cka(x, scale * x @ turn + 2) == pytest.approx(1, abs=1e-9)


def test_cka_of_unrelated_features_is_about_0_with_few_rows_too():
    """The plain form would give .5 and more."""
    found = [cka(rows(seed, n=30, channels=60), rows(seed + 100, n=30, channels=60)) for seed in range(40)]
    assert abs(np.mean(found)) < 0.05 and min(found) < 0


def test_effective_rank_counts_directions():
    def rank(x):
        spread = similarity.Spread()
        for part in x.chunk(4):
            spread.add(part)
        return spread.rank()

    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(400, 9))
    basis = np.linalg.qr(drawn - drawn.mean(0))[0]  # centred, orthonormal
    assert rank(torch.tensor(basis[:, :4] + 7)) == pytest.approx(4, abs=1e-6)
    one = torch.tensor(np.outer(basis[:, 0], rng.normal(size=6)))
    assert rank(one) == pytest.approx(1, abs=1e-3)
    values = np.array([3.0, 1.0])
    share = values / values.sum()
    assert rank(torch.tensor(basis[:, :2] * values)) == pytest.approx(float(np.exp(-(share * np.log(share)).sum())))
    assert math.isnan(rank(torch.ones(10, 3)))


def test_grids_are_compared_at_the_same_place():
    rng = np.random.default_rng(1)
    fine = torch.tensor(rng.normal(size=(6, 8, 8, 4)))
    coarse = fine.reshape(6, 4, 2, 4, 2, 4).mean((2, 4))
    found = similarity.Similarity(("a", "b"))
    found.add({"a": fine.flatten(1, 2), "b": coarse.flatten(1, 2)})
    assert found.cka()[0][1] == pytest.approx(1, abs=1e-5) and found.cka()[0][0] == 1
    values = found.values()
    assert values["difference"] == pytest.approx((0, 0), abs=1e-5) and found.units == 6
    assert all(0 < share <= 1 for share in values["rank_share"])
