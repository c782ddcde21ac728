"""The share of orders of few items that agree by chance."""

import numpy as np
import pytest

from redundancy_eval.statistics import agreement


def test_the_share_of_orders_that_agree_as_well():
    assert agreement.chance([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1 / 24)
    assert agreement.chance([1, 2], [2, 1]) == 1
    assert agreement.chance([1, 2, 3, 4], [10, 20, 40, 30]) == pytest.approx(4 / 24)
    assert np.isnan(agreement.chance([1, 1], [1, 2]))
    ordered = np.arange(10)
    assert agreement.chance(ordered, ordered) == 0 and 0.3 < agreement.chance(ordered, np.roll(ordered, 5)) < 1
