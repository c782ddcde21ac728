"""Names of Prismatic's tensors: in the original's `.pt` files, in the form that transformers reads, and here.

Sources: TRI-ML/prismatic-vlms at 874c5bb, prismatic/models/vlms/prismatic.py:98-134; openvla/openvla at c8f03f4,
prismatic/extern/hf/modeling_prismatic.py:51-170.
"""

import re

# Where the file of a training run has its weights; a manifest leaves it out.
_RUN = "model/"
_LANGUAGE, _LAYERS = "llm_backbone/llm.", "projector/projector."
_TOWERS = ("vision_backbone.featurizer.", "vision_backbone.fused_featurizer.")


def original_name(released: str) -> str | None:
    """Own name of a tensor of a `.pt` file (PART/NAME); None for rotary tables, which are computed."""
    own = released.removeprefix(_RUN)
    if own.endswith(".rotary_emb.inv_freq"):
        return None
    if own.startswith(_LANGUAGE):
        return f"language_model.{own.removeprefix(_LANGUAGE)}"
    return f"projector.{own.removeprefix(_LAYERS)}" if own.startswith(_LAYERS) else own


def original_release(own: str) -> str:
    """The inverse of `original_name`."""
    if own.startswith("language_model."):
        return _RUN + _LANGUAGE + own.removeprefix("language_model.")
    return _RUN + _LAYERS + own.removeprefix("projector.") if own.startswith("projector.") else own


def converted_name(released: str) -> str | None:
    """Own name of a tensor of the converted form, but for encoders; None for rotary tables."""
    if released.endswith(".rotary_emb.inv_freq"):
        return None
    return re.sub(r"^projector\.fc([123])\.", lambda found: f"projector.{2 * int(found[1]) - 2}.", released)


def converted_release(own: str) -> str:
    """The inverse of `converted_name`."""
    return re.sub(r"^projector\.([024])\.", lambda found: f"projector.fc{int(found[1]) // 2 + 1}.", own)


def of_encoder(released: str) -> tuple[int, str]:
    """The place of the encoder whose tensor this is, in the converted form, and timm's name of it; -1 for none."""
    for place, start in enumerate(_TOWERS):
        if released.startswith(start):
            # LayerScale's factor has another name there, as transformers renames whatever is called gamma.
            return place, released.removeprefix(start).replace(".scale_factor", ".gamma")
    return -1, released


def encoder_release(place: int, own: str) -> str:
    """The inverse of `of_encoder`."""
    return _TOWERS[place] + own.replace(".gamma", ".scale_factor")
