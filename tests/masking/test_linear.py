"""Linear guesses from moments alone: against scikit-learn, in exact and in hopeless cases, in any order of batches."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from hypothesis import given, settings
from hypothesis import strategies as st

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.masking import linear, predicted
from redundancy_eval.model_wrappers.masking.linear import Moments

pytestmark = pytest.mark.models


def sample(seed, rows, kept=6, dropped=3, noise=0.5, scale=1.0):
    """Rows of channels of which the last are partly a linear function of the first, in very different units."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(rows, kept)) @ draw.normal(size=(kept, kept)) * 10.0 ** draw.integers(-3, 4, kept)
    y = (x / x.std(0)) @ draw.normal(size=(kept, dropped)) + noise * draw.normal(size=(rows, dropped))
    return torch.from_numpy(np.concatenate([x, scale * y], 1) + draw.normal(size=kept + dropped))


def guess(rows, kept=6, held=None):
    fit, held = (rows, rows) if held is None else (rows, held)
    return linear.guess(Moments.of(fit), Moments.of(held), range(kept), range(kept, rows.shape[1]))


def said(found, rows, kept=6):
    return found.mean + (rows[:, :kept] - found.centre) @ found.weight


def test_an_exact_linear_function_is_found_exactly():
    rows = sample(0, 400, noise=0)
    found = guess(rows[:300], held=rows[300:])
    assert found.r2 == pytest.approx(1, abs=1e-6)
    error = (said(found, rows) - rows[:, 6:]).abs().max() / rows[:, 6:].abs().max()
    assert error < 1e-5
    torch.testing.assert_close(said(found, rows), found.bias + rows[:, :6] @ found.weight)


def test_what_the_others_do_not_tell_is_the_mean():
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(6000, 5, generator=draw, dtype=torch.float64) + torch.arange(5)
    found = linear.guess(Moments.of(rows[:5000]), Moments.of(rows[5000:]), [0, 1, 2], [3, 4])
    assert abs(found.r2) < 0.01
    torch.testing.assert_close(said(found, rows, 3), rows[:, 3:].mean(0).expand(6000, 2), atol=0.2, rtol=0)


@pytest.mark.parametrize("ridge", linear.RIDGES)
def test_it_is_scikit_learn_s_ridge_on_standardised_channels(monkeypatch, ridge):
    """Its penalty is on sums over rows, ours on means: alpha is the ridge times the rows."""
    Ridge = pytest.importorskip("sklearn.linear_model", reason="the oracle").Ridge
    rows = sample(1, 500)
    monkeypatch.setattr(linear, "RIDGES", (ridge,))
    found = linear.guess(Moments.of(rows[:400]), Moments.of(rows[400:]), range(6), range(6, 9))
    x, y = rows[:, :6].numpy(), rows[:, 6:].numpy()
    oracle = Ridge(alpha=ridge * len(rows), solver="svd").fit((x - x.mean(0)) / x.std(0), y)
    want = oracle.predict((x - x.mean(0)) / x.std(0))
    np.testing.assert_allclose(said(found, rows).numpy(), want, rtol=1e-7, atol=1e-7 * np.abs(want).max())


def test_the_held_out_r2_is_that_of_the_fit_to_the_other_part():
    score = pytest.importorskip("sklearn.metrics", reason="the oracle").r2_score
    rows = sample(2, 500)
    found = guess(rows[:400], held=rows[400:])
    keep, drop = torch.arange(6), torch.arange(6, 9)
    fit = dict(linear._weights(Moments.of(rows[:400]), keep, drop, linear.RIDGES))
    mean = rows[:400].mean(0)
    said = {ridge: mean[6:] + (rows[400:, :6] - mean[:6]) @ weight for ridge, weight in fit.items()}
    want = {ridge: score(rows[400:, 6:], each, multioutput="variance_weighted") for ridge, each in said.items()}
    assert found.ridge == max(want, key=want.get)
    assert found.r2 == pytest.approx(want[found.ridge], abs=1e-9)


def test_few_noisy_rows_get_a_large_ridge_and_many_clean_ones_a_small_one():
    few = sample(3, 30, kept=20, dropped=2, noise=8)
    many = sample(3, 4000, kept=20, dropped=2, noise=0)
    rest = sample(3, 2000, kept=20, dropped=2, noise=8)
    noisy = linear.guess(Moments.of(few), Moments.of(rest), range(20), range(20, 22))
    clean = linear.guess(Moments.of(many[:2000]), Moments.of(many[2000:]), range(20), range(20, 22))
    assert noisy.ridge >= 1e-1 and clean.ridge == 1e-6


@given(st.integers(0, 10**6), st.lists(st.integers(1, 40), min_size=1, max_size=6), st.randoms())
@settings(max_examples=40, deadline=None)
def test_moments_add_up_in_any_order_and_over_processes(seed, sizes, order):
    rows = sample(seed, 240)[: sum(sizes)] + 1000
    parts = list(rows.split(sizes))
    order.shuffle(parts)
    one, other = Moments.none(9), Moments.none(9)
    for number, part in enumerate(parts):
        if number % 2:
            one = one + Moments.of(part)
        else:
            other = other + Moments.of(part)
    both, whole = one + other, Moments.of(rows)
    assert both.count == whole.count
    torch.testing.assert_close(both.mean, whole.mean, rtol=1e-10, atol=1e-9)
    size = whole.scatter.diagonal().sqrt()
    assert ((both.scatter - whole.scatter).abs() <= 1e-9 * size * size[:, None] + 1e-6).all()


@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(-100, 100))
@settings(max_examples=30, deadline=None)
def test_units_of_a_kept_channel_do_not_matter(seed, factor, shift):
    rows = sample(seed, 60)
    other = rows.clone()
    other[:, 0] = factor * other[:, 0] + shift
    torch.testing.assert_close(said(guess(other), other), said(guess(rows), rows), rtol=1e-5, atol=1e-6)


def test_a_constant_channel_tells_nothing_and_is_guessed_by_its_mean():
    rows = sample(4, 200)
    rows[:, 1], rows[:, 7] = 3e4 + 1e-5 * torch.rand(200), -2.5
    found = guess(rows[:150], held=rows[150:])
    assert not found.weight[1].any() and not found.weight[:, 1].any() and found.mean[1] == -2.5
    without = linear.guess(
        Moments.of(rows[:150][:, [0, 2, 3, 4, 5, 6, 8]]),
        Moments.of(rows[150:][:, [0, 2, 3, 4, 5, 6, 8]]),
        range(5),
        [5, 6],
    )
    torch.testing.assert_close(found.weight[[0, 2, 3, 4, 5]][:, [0, 2]], without.weight)
    flat = torch.ones(20, 2)
    assert np.isnan(linear.guess(Moments.of(flat), Moments.of(flat), [0], [1]).r2)


def test_with_nothing_kept_the_guess_is_the_mean():
    rows = sample(5, 50)
    found = linear.guess(Moments.of(rows[:40]), Moments.of(rows[40:]), [], range(9))
    assert found.weight.shape == (0, 9)
    torch.testing.assert_close(found.bias, rows.mean(0))


def test_half_precision_is_summed_in_more():
    rows = (torch.randn(5000, 4, generator=torch.Generator().manual_seed(0)) + 50).bfloat16()
    torch.testing.assert_close(Moments.of(rows).scatter, Moments.of(rows.double()).scatter, rtol=1e-3, atol=1)


@pytest.mark.parametrize("side", [1, 2, 4])
def test_squares_of_tokens_are_averaged_and_filled(side):
    tokens = torch.randn(3, 64, 5)
    pooled = predicted.pool(tokens, side)
    assert pooled.shape == (3, 64 // side**2, 5)
    grid = tokens.reshape(3, 8, 8, 5)
    torch.testing.assert_close(pooled[:, 0], grid[:, :side, :side].mean((1, 2)))
    torch.testing.assert_close(pooled[:, -1], grid[:, -side:, -side:].mean((1, 2)))
    spread = predicted.spread(pooled, side)
    assert spread.shape == tokens.shape
    torch.testing.assert_close(predicted.pool(spread, side), pooled)
    assert torch.equal(spread.reshape(3, 8, 8, 5)[:, side - 1, side - 1], spread[:, 0])


@given(st.sets(st.text(min_size=1), max_size=30))
def test_a_fifth_of_the_images_is_held_out(images):
    held = predicted.held_out(images)
    assert held <= images and len(held) == (len(images) // 5 if len(images) > 4 else len(images) > 1)


def test_a_lack_of_memory_is_worded():
    with (
        pytest.raises(SetupError, match=r"covariances of all encoders' channels take 0.47 GB.*device=cpu"),
        predicted.enough_memory(7680),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="shape"), predicted.enough_memory(7680):
        raise RuntimeError("shape")
