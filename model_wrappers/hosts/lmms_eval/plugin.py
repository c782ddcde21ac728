"""Entry point `lmms_eval.models`: tells lmms-eval which model ids are ours.

lmms-eval is imported inside the function only: a module that imports its registry at the top disappears from it when
it happens to be imported first.
"""

from typing import Any

CLASSES = {
    "eagle_masked": "model.EagleMasked",
    "cambrian_masked": "model.CambrianMasked",
    "imof_masked": "model.ImofMasked",
    "deepseek_vl_masked": "model.DeepseekVlMasked",
    "eagle2_masked": "model.Eagle2Masked",
    "hf_masked": "model.HfMasked",
    "masked": "hooked.Hooked",
}


def manifests() -> list[Any]:
    """One ModelManifest for each masked model."""
    from lmms_eval.models.registry_v2 import ModelManifest

    here = "redundancy_eval.model_wrappers.hosts.lmms_eval"
    return [ModelManifest(model_id=name, simple_class_path=f"{here}.{path}") for name, path in CLASSES.items()]
