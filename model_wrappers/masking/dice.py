"""Whether something draws random numbers: a model that does answers each time otherwise."""

import random
from typing import Any

import numpy as np
import torch


class Dice:
    """The generators of random numbers from which a model may draw, as they are now."""

    def __init__(self) -> None:
        self._python, self._numpy, self._torch = random.getstate(), np.random.get_state(), torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def rolled(self) -> bool:
        """Whether something was drawn since."""
        now = Dice()
        return self._told() != now._told()

    def put_back(self) -> None:
        """Make them what they were."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._torch)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)

    def _told(self) -> list[Any]:
        own = [part.tobytes() if isinstance(part, np.ndarray) else part for part in self._numpy]
        return [self._python, own, *(state.numpy().tobytes() for state in (self._torch, *self._cuda))]
