"""Eagle2-9B: tiles, loading in both orders of towers, masking before the LayerNorm, parity, generation."""

import builtins
import gzip
import json
import shutil

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from PIL import Image
from safetensors.torch import load_file, save_file

from redundancy_eval.cli import main
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.families import templates
from redundancy_eval.model_wrappers.families.eagle2 import card
from redundancy_eval.model_wrappers.families.eagle2 import model as eagle2
from redundancy_eval.model_wrappers.families.eagle2.recording import Eagle2Recording
from redundancy_eval.model_wrappers.masking import loading, native
from redundancy_eval.model_wrappers.masking.prompt import Prompt
from tests.conftest import RECORDINGS, golden
from tests.helpers import tiny_eagle2

RECORDING = Eagle2Recording(card.FAMILY)
pytestmark = pytest.mark.models
BOTH = ("siglip", "convnext")
CHAT = templates.TEMPLATES["qwen2-chat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_eagle2.write(tmp_path_factory.mktemp("tiny") / "eagle2")


@pytest.fixture(scope="module")
def full(folder):
    return load(folder)


def load(folder, drop=None, **options):
    return loading.load("eagle2_masked", str(folder), drop, device="cpu", **options)


def picture(seed, size=(60, 60)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def embeddings(subject, images):
    return torch.cat([visual.embeddings for visual in subject.visuals(images)])


# --- against the original code -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_parity_with_recorded_tensors(capsys):
    assert main(["parity", str(golden("eagle2", "tiny"))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line.startswith("FAIL") or "refused" in line]
    errors = [float(line.split()[1]) for line in lines if line.startswith("ok") and "e-" in line.split()[1]]
    assert len(errors) > 100 and max(errors) < 1e-5
    conditions = {line.split(": all")[0].split(maxsplit=3)[-1] for line in lines if line.rstrip().endswith("tensors")}
    assert conditions == {"nomask", "zero:siglip", "zero:convnext", "all_masked"}


@pytest.mark.slow
def test_parity_cuts_images_as_each_input_was_recorded(tmp_path, capsys):
    """The checkpoint says one tile and no thumbnail; the input was recorded with twelve and one."""
    source, folder = RECORDINGS / "eagle2" / "tiny", tmp_path / "tiny"
    shutil.copytree(source, folder)
    path = folder / "checkpoint" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "max_dynamic_patch": 1, "use_thumbnail": False}))
    assert main(["parity", str(folder)]) == 0 and "FAIL" not in capsys.readouterr().out
    path = folder / "inputs" / "inputs.json"
    inputs = json.loads(path.read_text())
    inputs["inputs"]["b"] |= {"max_num": 1}
    path.write_text(json.dumps(inputs))
    assert main(["parity", str(folder)]) == 1
    assert "FAIL           b tiles  '[1, 1]' != '[2, 1]'" in capsys.readouterr().out
    inputs["inputs"]["b"] |= {"max_num": "many"}
    path.write_text(json.dumps(inputs))
    assert main(["parity", str(folder)]) == 2 and "max_num must be a whole number" in capsys.readouterr().err


def test_an_input_that_tells_no_tiles_is_cut_as_the_checkpoint_says(folder):
    model = load(folder).model
    usual = model.max_tiles, model.thumbnail
    with RECORDING.as_recorded(model, {"max_num": 3, "use_thumbnail": False}):
        assert (model.max_tiles, model.thumbnail) == (3, False)
        assert model.layouts([picture(1, (120, 60))])[0].tiles == 2
    with RECORDING.as_recorded(model, {}):
        assert (model.max_tiles, model.thumbnail) == usual


def test_pixels_of_both_encoders():
    inputs = golden("eagle2", "tiny", "inputs")
    recorded = load_file(inputs / "preprocessed.safetensors")
    model, _, _ = RECORDING.load(golden("eagle2", "tiny", "checkpoint"))
    for name in "abcd":
        tiles = model.preprocess([Image.open(inputs / f"{name}.png")])["tiles"]
        assert torch.equal(tiles[..., ::16, ::16], recorded[f"{name}/pixel_values_stride16"])
        resized, normalised = (pixels[..., ::32, ::32] for pixels in model.convnext_pixels(tiles))
        torch.testing.assert_close(resized, recorded[f"{name}/convnext_pixels_stride32"], atol=2e-7, rtol=0)
        torch.testing.assert_close(normalised, recorded[f"{name}/convnext_pixels_normalised_stride32"])


@pytest.mark.parametrize("path", [tiny_eagle2.SIGLIP_FIRST, tiny_eagle2.CONVNEXT_FIRST])
def test_full_size_names_and_shapes(path):
    with gzip.open(golden("eagle2", "manifests") / "manifest_Eagle2-9B.json.gz", "rt") as handle:
        manifest = json.load(handle)
    config = manifest["config"]
    with torch.device("meta"):
        model = eagle2.Eagle2({**config, "vision_config": {**config["vision_config"], "vision_path": path}})
        silent = {k: v for k, v in config["vision_config"].items() if k != "siglip_vision_config"}
        defaults = eagle2.Eagle2({**config, "vision_config": silent})
    ours = {own: tuple(value.shape) for own, value in model.state_dict().items()}
    assert ours == {own: tuple(value.shape) for own, value in defaults.state_dict().items()}
    shapes = {entry["name"]: tuple(entry["shape"]) for entry in manifest["entries"]}
    if path == tiny_eagle2.CONVNEXT_FIRST:  # the manifest has SigLIP first
        swap = {"towers.0.": "towers.1.", "towers.1.": "towers.0."}
        shapes = {
            next((name.replace(a, b) for a, b in swap.items() if a in name), name): shape
            for name, shape in shapes.items()
        }
    assert {model.rename(released): shape for released, shape in shapes.items() if model.rename(released)} == ours
    rest = set(shapes) - {model.release(own) for own in ours}
    assert len(rest) == 15 and all(".head." in released for released in rest)
    assert model.shapes("encoder") == {"siglip": (256, 4608), "convnext": (256, 3072)} and model.max_tiles == 12


# --- tiles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((352, 352), (1, 1)),
        ((520, 240), (2, 1)),
        ((231, 433), (1, 2)),
        ((620, 640), (2, 2)),  # one tile would keep less than 60 % of the area
        ((560, 590), (1, 1)),  # here it keeps 61 %
        ((448, 448), (1, 1)),
        ((896, 896), (2, 2)),
        ((2000, 1500), (4, 3)),
        ((10000, 100), (12, 1)),
        ((10, 1000), (1, 12)),
        ((1, 1), (1, 1)),
    ],
)
def test_the_tile_rule(size, grid):
    assert eagle2.tile_grid(*size, 12, 448) == grid


def test_ties_are_broken_as_in_the_original():
    """Equally good grids of equal count, such as 4 x 5 and 5 x 4 for a square: the first in the order of a set."""

    def listed(most):
        pairs = [(i, j) for n in range(1, most + 1) for i in range(1, n + 1) for j in range(1, n + 1) if i * j <= most]
        return sorted(set(pairs), key=lambda grid: grid[0] * grid[1])

    for most in (2, 5, 6, 8, 12, 24):
        for side in [*range(300, 2600, 47), 1436, 2589]:
            grids = listed(most)
            areas = [min(c * r * 448 * 448 / (side * side), 0.6) for c, r in grids]
            worths = [area * min(c / r, 1 / (c / r)) for area, (c, r) in zip(areas, grids, strict=True)]
            assert eagle2.tile_grid(side, side, most, 448) == grids[worths.index(max(worths))]
    assert eagle2.tile_grid(2589, 2589, 24, 448) == (5, 4)


@pytest.fixture(scope="module")
def tiling_model():
    with torch.device("meta"):
        return eagle2.Eagle2(tiny_eagle2.config(), ())


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 14))
@example(620, 640, 12)
def test_tiles_are_at_most_max_tiles_and_a_thumbnail(tiling_model, width, height, most):
    tiling_model.max_tiles = most
    (layout,) = tiling_model.layouts([Image.new("1", (width, height))])
    count = layout.columns * layout.rows
    assert 1 <= count <= most and layout.thumbnail == (count > 1)
    assert tiling_model.units(layout) == count + (count > 1)


def test_tiles_are_cut_row_by_row_and_the_thumbnail_is_last(full):
    model = full.model
    image = Image.new("RGB", (112, 56), (255, 0, 0))
    image.paste((0, 0, 255), (56, 0, 112, 56))
    tiles = model.preprocess_uint8(image)
    assert tiles.shape == (3, 56, 56, 3)
    assert tiles[0, 10, 10].tolist() == [255, 0, 0] and tiles[1, 40, 40].tolist() == [0, 0, 255]
    assert tiles[2, 28, 5].tolist() == [255, 0, 0] and tiles[2, 28, 50].tolist() == [0, 0, 255]
    tall = Image.fromarray(np.repeat(np.arange(6, dtype=np.uint8)[:, None], 56, 1).repeat(56, 0)).convert("RGB")
    (layout,) = model.layouts([tall])
    assert (layout.columns, layout.rows) == (1, 6)
    assert [int(tile[30, 30, 0]) for tile in model.preprocess_uint8(tall)[:6]] == [0, 1, 2, 3, 4, 5]
    assert model.preprocess_uint8(Image.new("L", (56, 56), 7)).tolist() == np.full((1, 56, 56, 3), 7).tolist()


def test_max_tiles(folder, full):
    image = picture(1, (168, 168))
    assert full.model.layouts([image])[0].tiles == 5  # 2 x 2 and the thumbnail
    assert load(folder, max_tiles="1").model.layouts([image])[0] == eagle2.Tiling(1, 1, False)
    assert load(folder, max_tiles=12).model.layouts([image])[0].tiles == 10
    for wrong in (0, "many", -3):
        with pytest.raises(SetupError, match="max_tiles must be a whole number from 1"):
            load(folder, max_tiles=wrong)


def test_a_release_without_thumbnails(tmp_path):
    subject = load(tiny_eagle2.write(tmp_path / "plain", use_thumbnail=False))
    assert subject.model.layouts([picture(1, (112, 56))]) == [eagle2.Tiling(2, 1, False)]


# --- masks at the fusion -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [("siglip",), ("convnext",), BOTH])
def test_skipping_is_bit_identical_to_running_and_zeroing(folder, full, mask):
    images = [picture(1), picture(2, (40, 170))]
    layouts = full.model.layouts(images)
    assert [layout.tiles for layout in layouts] == [1, 5]
    features = full.features(images)
    zeroed = {k: torch.zeros_like(v) if k in mask else v for k, v in features.items()}
    with torch.inference_mode():
        expected = torch.cat([visual.embeddings for visual in full.model.fuse(zeroed, layouts)])
    subject = load(folder, "+".join(mask))
    assert subject.mask == mask and subject.mask_label == ("all" if mask == BOTH else mask[0])
    assert torch.equal(embeddings(subject, images), expected)
    assert not torch.equal(expected, embeddings(full, images))


def test_a_zeroed_encoder_moves_the_other_half(full):
    """LayerNorm over both: zeros change the scale of what stays, and are no zeros behind it."""
    features = full.features([picture(1)])
    zeroed = features | {"siglip": torch.zeros_like(features["siglip"])}
    with torch.inference_mode():
        plain, masked_ = (full.model.mlp1[0](full.model.concatenate(f)) for f in (features, zeroed))
    split = features["siglip"].shape[-1]
    assert (plain[..., split:] - masked_[..., split:]).abs().max() > 0.1
    assert masked_[..., :split].abs().max() > 0.1
    # With both zeroed the LayerNorm gives its bias: all tokens are equal.
    with torch.inference_mode():
        nothing = full.model.mlp1[0](full.model.concatenate({k: torch.zeros_like(v) for k, v in features.items()}))
    assert torch.equal(nothing, full.model.mlp1[0].bias.expand_as(nothing))


def test_a_dropped_encoder_is_neither_loaded_nor_run(folder, full):
    subject = load(folder, "siglip")
    assert set(subject.model.encoders) == {"convnext"}
    assert set(load(folder, "all").model.encoders) == set()
    ran = []
    handles = [
        encoder.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, encoder in full.model.encoders.items()
    ]
    embeddings(native.MaskedModel(full.model, full.tokenizer, ("convnext",), template=full.template), [picture(4)])
    assert ran == ["siglip"]
    nothing = native.MaskedModel(full.model, full.tokenizer, BOTH, template=full.template)
    assert torch.equal(embeddings(nothing, [picture(4)]), embeddings(nothing, [picture(5)])) and ran == ["siglip"]
    for handle in handles:
        handle.remove()


def test_pixel_shuffle_takes_rows_first():
    tokens = torch.arange(16.0)[None, :, None].repeat(1, 1, 2)  # a 4 x 4 grid of two equal channels
    shuffled = eagle2.pixel_shuffle(tokens)
    assert shuffled.shape == (1, 4, 8)
    assert shuffled[0, 1].tolist() == [2, 2, 3, 3, 6, 6, 7, 7]


# --- loading -------------------------------------------------------------------------------------------------------


def test_both_orders_of_the_towers_load(folder, full, tmp_path):
    other = tiny_eagle2.write(tmp_path / "other", tiny_eagle2.CONVNEXT_FIRST)
    first = {name.split(".vision_tower.")[0][-1] for name in load_file(other / "model.safetensors") if ".stem." in name}
    assert first == {"0"}
    subject = load(other)
    assert subject.model.encoder_names == BOTH  # the order of the concatenation, which is not the file's
    assert torch.equal(embeddings(subject, [picture(1)]), embeddings(full, [picture(1)]))
    # The names decide, even where the config says otherwise or nothing.
    for path in (tiny_eagle2.SIGLIP_FIRST, None):
        config = json.loads((other / "config.json").read_text())
        config["vision_config"]["vision_path"] = path
        (other / "config.json").write_text(json.dumps(config))
        assert torch.equal(embeddings(load(other), [picture(1)]), embeddings(full, [picture(1)]))


def bent(folder, tmp_path, change_tensors=None, vision=None, **changes):
    copy = tmp_path / "bent"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    config = {**json.loads((copy / "config.json").read_text()), **changes}
    config["vision_config"].update(vision or {})
    (copy / "config.json").write_text(json.dumps(config))
    if change_tensors:
        tensors = load_file(copy / "model.safetensors")
        change_tensors(tensors)
        save_file(tensors, copy / "model.safetensors")
    return copy


def refused(copy, match, **options):
    with pytest.raises(SetupError, match=match) as error:
        load(copy, **options)
    assert "\n" not in str(error.value)


def test_missing_tensors_are_listed(folder, tmp_path):
    gamma = "vision_model.vision_model.vision_towers.1.vision_tower.stages.0.blocks.0.weight"
    copy = bent(folder, tmp_path, lambda t: t.pop(gamma))
    refused(copy, r"1 tensors are missing.*vision_tower\.stages\.0\.blocks\.0\.weight")
    assert load(copy, "convnext").mask == ("convnext",)


def test_the_output_layer_is_its_own_tensor(folder, full, tmp_path):
    """The original ties it to the embeddings where the config is silent; the release's own tensor is what counts."""
    copy = bent(folder, tmp_path, tie_word_embeddings=True)
    model = load(copy).model.language_model
    assert torch.equal(model.lm_head.weight, full.model.language_model.lm_head.weight)
    assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)


def test_unused_and_unexpected_tensors(folder, tmp_path):
    assert eagle2.Eagle2.load(folder)[2].skipped == 2  # the two heads
    refused(
        bent(folder, tmp_path, lambda t: t.update({"vision_model.new": torch.zeros(3)})), "none of this model's: vi"
    )


@pytest.mark.parametrize(
    ("vision", "changes", "match"),
    [
        ({}, {"model_type": "internvl_chat"}, "not an Eagle2-9B checkpoint: model_type is 'internvl_chat'"),
        ({"moe_version_type": "all_tiling"}, {}, "unknown towers 'all_tiling'"),
        ({"normalize_type": "imagenet"}, {}, "normalize_type must be siglip"),
        ({"convnext_img_size": 96}, {}, "siglip has 2 tokens a side, convnext 3"),
        ({"convnext_config": {"width": 3}}, {}, "convnext_config has unknown settings: width"),
        ({}, {"force_image_size": 112}, "image_size is 56, but force_image_size is 112"),
        ({}, {"downsample_ratio": 1.0}, "downsample_ratio must be 0.5"),
        ({}, {"llm_config": {"model_type": "llama"}}, "llm_config.model_type must be qwen2"),
    ],
)
def test_configs_that_are_not_ours(folder, tmp_path, vision, changes, match):
    refused(bent(folder, tmp_path, vision=vision, **changes), match)


def test_other_mistakes(folder):
    refused(folder, "unknown encoder 'clip'; this model has: siglip, convnext", drop="clip")
    refused(folder, "site must be one of encoder", site="projected")
    refused(folder, "eagle2_masked has no argument 'tiles'", tiles=3)


def test_a_damaged_or_foreign_tokenizer_is_one_line(folder, tmp_path):
    copy = bent(folder, tmp_path)
    for name in ("tokenizer_config.json", "added_tokens.json"):
        (copy / name).unlink()
    refused(copy, "the tokenizer in .* has no token <img> or <IMG_CONTEXT>")
    (copy / "vocab.json").write_text("{")
    refused(copy, "cannot read the tokenizer in")


def test_no_remote_code_is_run_and_nothing_is_asked(folder, full, tmp_path, monkeypatch):
    copy, marker = bent(folder, tmp_path), tmp_path / "remote code ran"
    evil = f"open({str(marker)!r}, 'w')\n"
    for name in ("configuration_eagle_chat", "modeling_eagle_chat", "tokenization_eagle_chat"):
        (copy / f"{name}.py").write_text(evil)
    for name in ("config.json", "tokenizer_config.json"):
        content = json.loads((copy / name).read_text())
        content.setdefault("auto_map", {})["AutoTokenizer"] = ["tokenization_eagle_chat.Tokenizer", None]
        (copy / name).write_text(json.dumps(content))

    def ask(*args):
        raise AssertionError("a question was asked")

    monkeypatch.setattr(builtins, "input", ask)
    subject = load(copy)
    assert not marker.exists()
    assert torch.equal(embeddings(subject, [picture(1)]), embeddings(full, [picture(1)]))


def test_half_precision_runs_in_its_own_type(folder):
    subject = load(folder, "siglip", dtype="bf16")
    assert {p.dtype for p in subject.model.parameters()} == {torch.bfloat16}
    assert embeddings(subject, [picture(1)]).dtype == torch.bfloat16
    assert isinstance(subject.generate([Prompt("What?", (picture(1),))], 3)[0].text, str)


# --- prompts and answers -------------------------------------------------------------------------------------------


def test_the_template():
    text = CHAT.render(["<image>\nWhat?", "Red.", "Sure?"])
    assert text == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<image>\nWhat?<|im_end|>\n"
        "<|im_start|>assistant\nRed.<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert templates.place_images("What?", 1, CHAT) == ("<image>\nWhat?", False)
    assert templates.place_images("What?", 2, CHAT) == ("<image 1><image>\n<image 2><image>\nWhat?", False)


def test_an_image_stands_between_its_marks(full):
    ids = full.prompt_ids(Prompt("What?", (picture(1), picture(2))))
    start, end = full.tokenizer.convert_tokens_to_ids(["<img>", "</img>"])
    spots = [index for index, token in enumerate(ids) if token == templates.IMAGE_ID]
    assert len(spots) == 2 and all(ids[spot - 1] == start and ids[spot + 1] == end for spot in spots)
    assert full.template == CHAT and full.eos == [full.tokenizer.convert_tokens_to_ids("<|im_end|>")]


def prompts_of_all_kinds():
    return [
        Prompt("What is written in the image?\nAnswer with one word.", (picture(1, (200, 60)),)),
        Prompt("How many shapes are there?", (picture(2, (30, 60)), picture(3, (100, 105)), picture(5))),
        Prompt("Say something."),
        Prompt("Where is the red circle?\nA. left\nB. right", (picture(4),)),
    ]


def test_batches_of_different_tile_counts_answer_as_single_prompts_do(full):
    batch = prompts_of_all_kinds()
    tiles = [[layout.tiles for layout in full.model.layouts(prompt.images)] for prompt in batch]
    assert tiles == [[4], [3, 5, 1], [], [1]]
    together = full.generate(batch, 12)
    assert together == [full.generate([prompt], 12)[0] for prompt in batch]
    scored = full.loglikelihood(batch, ["red", "3", "blue circle", "A"])
    for (total, greedy), prompt, word in zip(scored, batch, ["red", "3", "blue circle", "A"], strict=True):
        assert full.loglikelihood([prompt], [word])[0] == (pytest.approx(total, abs=1e-3), greedy)


def test_each_image_has_the_tokens_of_its_own_tiles(full):
    images = list(prompts_of_all_kinds()[1].images)
    together = full.visuals(images)
    assert [len(visual.embeddings) for visual in together] == [4 * 3, 4 * 5, 4 * 1]
    for visual, image in zip(together, images, strict=True):
        torch.testing.assert_close(visual.embeddings, full.visuals([image])[0].embeddings, atol=1e-5, rtol=1e-4)
