"""Pictures of noise."""

import numpy as np
from PIL import Image


def picture(seed, size=(60, 50)):
    """An RGB image of this width and height."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
