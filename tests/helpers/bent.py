"""Tiny checkpoints of which a test bends one thing."""

import json
import shutil

import pytest

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from safetensors.torch import load_file, save_file

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.masking import loading
from redundancy_eval.model_wrappers.masking.prompt import Prompt
from tests.helpers import (
    tiny_cambrian,
    tiny_deepseek_ocr,
    tiny_deepseek_vl,
    tiny_eagle2,
    tiny_imof,
    tiny_mgm,
    tiny_prismatic,
)
from tests.helpers.pictures import picture

PARTS = {  # where each family's config describes its language model
    "eagle_masked": "", "cambrian_masked": "", "phi3": "", "imof_masked": "", "deepseek_vl_masked": "text_config.",
    "eagle2_masked": "llm_config.", "deepseek_ocr_masked": "", "prismatic_masked": "text_config.", "mgm_masked": "",
}  # fmt: skip


def checkpoints(source, root):
    """One tiny checkpoint for each family: (folder, other arguments)."""
    cambrian, encoders = tiny_cambrian.write(root / "cambrian")
    phi3, _ = tiny_cambrian.write(root / "phi3", "phi3", vocab_size=512)
    imof, towers = tiny_imof.write(root / "imof")
    mgm, convnext = tiny_mgm.write(root / "mgm")
    return {
        "eagle_masked": (source, {}),
        "cambrian_masked": (cambrian, {"encoder_weights": str(encoders)}),
        "phi3": (phi3, {"encoder_weights": str(encoders)}),
        "imof_masked": (imof, {"encoder_weights": str(towers)}),
        "deepseek_vl_masked": (tiny_deepseek_vl.write(root / "deepseek_vl"), {}),
        "eagle2_masked": (tiny_eagle2.write(root / "eagle2"), {}),
        "deepseek_ocr_masked": (tiny_deepseek_ocr.write(root / "deepseek_ocr"), {"base_size": "128"}),
        "prismatic_masked": (tiny_prismatic.write(root / "prismatic", "openvla")[0], {}),
        "mgm_masked": (mgm, {"encoder_weights": str(convnext)}),
    }


def bent(folder, tmp_path, tensors=None, config=None, name="bent", **files):
    """A copy with changed tensors, config and small JSON files."""
    copy = tmp_path / name
    shutil.copytree(folder, copy)
    told = json.loads((copy / "config.json").read_text())
    for path, value in (config or {}).items():
        *parts, key = path.split(".")
        part = told
        for step in parts:
            part = part.setdefault(step, {})
        part.pop(key, None) if value is ... else part.update({key: value})
    (copy / "config.json").write_text(json.dumps(told))
    if tensors:
        held = load_file(copy / "model.safetensors")
        tensors(held)
        save_file(held, copy / "model.safetensors", metadata={"format": "pt"})
    for stem, changes in files.items():
        path = copy / f"{stem}.json"
        old = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**old, **changes}))
    return copy


def load(folder, model_id="eagle_masked", **options):
    return loading.load(model_id.replace("phi3", "cambrian_masked"), str(folder), device="cpu", **options)


def refused(folder, match, model_id="eagle_masked", **options):
    with pytest.raises(SetupError, match=match) as error:
        load(folder, model_id, **options)
    text = str(error.value)
    assert "\n" not in text and "\x1b" not in text


def logits(subject, name="document 0", template=None):
    """Of the first token of an answer; where an image must stand in its place, without one."""
    own = subject.model.max_images == 1 and subject.model.__class__.__name__ == "Cambrian"
    prompt = Prompt("What?", () if own else (picture(1),), name)
    sequences, visuals = subject.embed_prompts([prompt])
    inputs, attention = subject.batch(sequences)
    with torch.inference_mode(), subject.model.prefill(visuals, [0]):
        return subject.model.language_model(inputs_embeds=inputs, attention_mask=attention).logits[0, -1]


# --- checkpoints whose encoders, or words, stand in a folder of their own: (folder, that one) ------------------------


def bent_pair(pair, tmp_path, tensors=None, **settings):
    """A copy of the checkpoint with other tensors or settings (... takes one out), and the other folder."""
    return bent(pair[0], tmp_path, tensors, settings), pair[1]


def load_pair(model_id, pair, drop=None, **options):
    folder, beside = pair
    return loading.load(model_id, str(folder), drop, device="cpu", **{"encoder_weights": str(beside), **options})


def refused_pair(model_id, pair, match, error=SetupError, **options):
    with pytest.raises(error, match=match) as raised:
        load_pair(model_id, pair, **options)
    assert "\n" not in str(raised.value)


def embeddings(subject, images, questions=()):
    return torch.stack([visual.embeddings for visual in subject.visuals(images, None, questions)])
