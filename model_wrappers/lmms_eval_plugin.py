"""Entry point `lmms_eval.models`: tells lmms-eval which model ids are ours.

lmms-eval is imported inside the function only: a module that imports its registry at the top disappears from it when
it happens to be imported first.
"""

from typing import Any


def manifests() -> list[Any]:
    """One ModelManifest for each masked model."""
    from lmms_eval.models.registry_v2 import ModelManifest

    path = "redundancy_eval.model_wrappers.lmms_eval_model"
    return [ModelManifest(model_id="eagle_masked", simple_class_path=f"{path}.EagleMasked")]
