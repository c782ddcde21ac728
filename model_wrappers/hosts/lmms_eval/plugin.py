"""Entry point `lmms_eval.models`: gives lmms-eval the model ids of the families, and of models with hooks.

lmms-eval is imported inside the function only: a module that imports its registry at the top disappears from it when
it happens to be imported first.
"""

from typing import Any

from redundancy_eval.model_wrappers.families import registry

_HERE = "redundancy_eval.model_wrappers.hosts.lmms_eval"


def class_paths() -> dict[str, str]:
    """Model id -> where its class is, which stands there under the model id (see model.py)."""
    paths = {model_id: f"{_HERE}.model.{model_id}" for model_id in (*registry.FAMILIES, registry.HF_MASKED)}
    return {**paths, registry.MASKED: f"{_HERE}.hooked.Hooked"}


def manifests() -> list[Any]:
    """One ModelManifest for each masked model."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return [ModelManifest(model_id=name, simple_class_path=path) for name, path in class_paths().items()]
