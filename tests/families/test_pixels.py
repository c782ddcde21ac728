"""What encoders see of images: prepared one by one it is what is prepared of all, in every family, bit for bit."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from redundancy_eval.model_wrappers.encoders import pixels
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.masking import loading
from tests.helpers import tiny_models

pytestmark = pytest.mark.models
SIZES = [(60, 50), (150, 50), (50, 150), (333, 47), (60, 50)]


def pictures():
    dice = np.random.default_rng(0)
    return [Image.fromarray(dice.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)) for size in SIZES]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return tiny_models.write(tmp_path_factory.mktemp("pixels"))


@pytest.mark.parametrize("model", registry.FAMILIES)
def test_one_by_one_is_all_at_once(model, checkpoints):
    full = loading.load(model, **{"device": "cpu", "dtype": "float32", **checkpoints[model], "drop": "none"})
    images, names = pictures(), full.encoder_names
    each = [full.pixels([image], names) for image in images]
    together, joined = full.pixels(images, names), full.model.join(each)
    assert joined.keys() == together.keys() and all(torch.equal(joined[key], together[key]) for key in joined)
    one = full.model.join(each[:1])
    assert one.keys() == each[0].keys() and all(torch.equal(one[key], each[0][key]) for key in one)
    made, wanted = full.encode(images, names, each), full.encode(images, names)
    assert all(torch.equal(made[name], wanted[name]) for name in names) and len(made) == len(names)


@given(
    st.tuples(*[st.floats(0, 1, width=32)] * 3), st.tuples(*[st.floats(0.0625, 1, width=32)] * 3), st.integers(0, 99)
)
def test_a_table_of_brightnesses_is_the_computation(mean, std, seed):
    """transformers' image_transforms.py: rescale in float64, to float32, then normalise."""
    colours = np.random.default_rng(seed).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    colours[0, 0, 0], colours[0, 0, 1] = 0, 255
    wanted = (colours * (1 / 255)).astype(np.float32)
    wanted = (wanted - np.array(mean, dtype=np.float32)) / np.array(std, dtype=np.float32)
    found = pixels.normalise(colours, mean, std)
    assert found.is_contiguous() and found.dtype == torch.float32
    assert torch.equal(found, torch.from_numpy(wanted).permute(0, 3, 1, 2))
