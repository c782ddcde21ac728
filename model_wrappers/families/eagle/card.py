"""What is said of Eagle X without its code.

Sources of the keys: NVlabs/EAGLE at fef95f1, train.py:1036-1180 and eagle/model/eagle_arch.py.
"""

from collections.abc import Mapping
from typing import Any

from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub
from redundancy_eval.model_wrappers.checkpoints.config_keys import OBJECTS, SIZE, TEXT, Keys, each, words
from redundancy_eval.model_wrappers.families.card import Checkpoint, Family, Published
from redundancy_eval.model_wrappers.families.language_keys import LLAMA, LLAVA

# Kind of tower in Eagle's `mm_vision_tower` -> name of the encoder.
TOWERS = {"clip": "clip", "convnext": "convnext", "sam": "sam", "det": "eva02", "pix2struct": "pix2struct"}


def towers(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Entries of Eagle's `mm_vision_tower`; the original code passes over empty ones (`"convnext-1024;"`)."""
    return tuple(tower for tower in str(config.get("mm_vision_tower")).split(";") if tower)


def encoders(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Encoders of an Eagle X checkpoint, in the order of its `mm_vision_tower`.

    Raises:
        SetupError: no Eagle X config, an unknown tower, or one encoder named twice.
    """
    listed = config.get("mm_vision_tower")
    if config.get("model_type") != "eagle_llama" or not isinstance(listed, str):
        raise SetupError(
            f"not an Eagle X checkpoint: model_type is {config.get('model_type')!r} (expected 'eagle_llama') "
            f"and mm_vision_tower is {listed!r}"
        )
    kinds = [tower.partition("-")[0] for tower in towers(config)]
    if not kinds:
        raise SetupError(f"mm_vision_tower names no encoder: {listed!r}")
    unknown = [kind for kind in kinds if kind not in TOWERS]
    if unknown:
        raise SetupError(f"unknown tower {unknown[0]!r} in mm_vision_tower {listed!r}; known: {', '.join(TOWERS)}")
    if len(set(kinds)) != len(kinds):
        raise SetupError(f"mm_vision_tower names an encoder twice: {listed!r}")
    return tuple(TOWERS[kind] for kind in kinds)


_KEYS = (
    LLAMA
    | LLAVA
    | Keys(
        read={
            **each(TEXT, "mm_vision_tower"),
            **each(SIZE, "image_size grid_size"),
            **each(SIZE.or_null(), "mm_hidden_size tokenizer_model_max_length"),
            **each(OBJECTS, "encoder_configs"),
        },
        fixed={"mm_projector_type": ("mlp2x_gelu",)},
        idle=words(
            # passed over by Eagle's towers (hr_clip_encoder.py, multi_backbone_...encoder.py)
            "mm_vision_select_layer mm_vision_select_feature mm_projector_query_number "
            # the encoders' weights, trained on or not, lie in the checkpoint
            "unfreeze_mm_vision_tower mm_vision_tower_lr"
        ),
    )
)

_X4 = ("clip", "convnext", "pix2struct", "eva02")
_X5_7B = ("clip", "convnext", "sam", "eva02", "pix2struct")
_X5_13B = ("clip", "convnext", "sam", "pix2struct", "eva02")
_NON_COMMERCIAL = "CC-BY-NC(-SA)-4.0"
FAMILY = Family(
    model_id="eagle_masked",
    title="Eagle X (channel concatenation)",
    model="redundancy_eval.model_wrappers.families.eagle.model:Eagle",
    default="NVEagle/Eagle-X5-7B",
    encoders=encoders,
    keys=lambda config: _KEYS,
    # Orders: the released configs of X4-8B-Plus and X5-13B were read; X5-7B's and X4-13B-Plus's follow NVIDIA's
    # scripts and the 8B release, and are read from the config when it is at hand.
    checkpoints=(
        Checkpoint("NVEagle/Eagle-X5-7B", _X5_7B, "vicuna_v1", _NON_COMMERCIAL),
        Checkpoint("NVEagle/Eagle-X5-13B", _X5_13B, "vicuna_v1", _NON_COMMERCIAL),
        Checkpoint("NVEagle/Eagle-X5-13B-Chat", _X5_13B, "vicuna_v1", _NON_COMMERCIAL),
        Checkpoint("NVEagle/Eagle-X4-8B-Plus", _X4, "llama3", _NON_COMMERCIAL),
        Checkpoint("NVEagle/Eagle-X4-13B-Plus", _X4, "vicuna_v1", _NON_COMMERCIAL),
        Checkpoint(hub.DEMO, _X4, "vicuna_v1", "Apache-2.0"),
    ),
    sites=("encoder",),
    checked_with="recorded tensors",
    recording="redundancy_eval.model_wrappers.families.eagle.recording:EagleRecording",
    slicing="redundancy_eval.model_wrappers.families.eagle.slicing:cut",
    costs={
        "clip": (303.5, 381),
        "convnext": (843.4, 6335),
        "sam": (308.3, 2986),
        "eva02": (303.4, 3098),
        "pix2struct": (512.8, 2512),
    },
    skipped="always",
    # VLMEvalKit's vlm/eagle_x.py, which the authors left as it was; top_k is transformers' default of its time
    published=Published(
        arguments={"conv_template": "vicuna_v1", "dtype": "float16", "long_prompt": "cut"},
        generation={"do_sample": True, "temperature": 0.2, "top_p": 0.5, "top_k": 50},
        max_new_tokens=512,
        joint="",
        one_image=False,
        own_choice_wording=True,
    ),
)
