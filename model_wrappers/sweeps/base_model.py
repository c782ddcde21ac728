"""Who is the model that `masked` wraps, as far as that is known from outside; no torch needed.

Its wrapper goes by its class or function and the content of the files that these stand in; its weights are those in the
folder or hub repository that the arguments name. What the wrapper fetches besides, by names in a config, is known by
these names alone.
"""

import functools
import inspect
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redundancy_eval import files, model_args
from redundancy_eval.errors import SetupError
from redundancy_eval.model_wrappers.checkpoints import hub, identity

WEIGHTS = ("pretrained", "model_path")  # what wrappers call them in lmms-eval, and in VLMEvalKit


def checkpoint(given: Mapping[str, str]) -> dict[str, Any] | None:
    """Identity of the weights and of whatever other folders and files the arguments name; None where it is not known.

    Args:
        given: the arguments of `masked`.
    """
    named = next((given[name] for name in WEIGHTS if given.get(name)), None)
    others = {key: Path(value).expanduser() for key, value in given.items() if key not in WEIGHTS and os.sep in value}
    if named is None:
        return None
    try:
        place = hub.locate(named, given.get("revision"))
        return identity.of({"checkpoint": place, **{key: path for key, path in others.items() if path.exists()}})
    except SetupError:  # no checkpoint that is known here; whether it is one, the wrapper will tell
        return None


def wrapper(maker: Any) -> dict[str, Any]:
    """Name of the class or function that makes a model, what it is given beforehand, and hashes of its source files.

    Args:
        maker: the class or function, or a functools.partial of it, as VLMEvalKit has them.
    """
    settings: dict[str, str] = {}
    while isinstance(maker, functools.partial):
        own = {key: str(value) for key, value in maker.keywords.items() if not model_args.is_secret(key)}
        settings = {**own, **settings}
        maker = maker.func
    sources = {}
    for part in inspect.getmro(maker) if isinstance(maker, type) else (maker,):
        module = part.__module__
        path = getattr(sys.modules.get(module), "__file__", None)
        if path and module.partition(".")[0] not in sys.stdlib_module_names:
            sources[module] = files.sha256(Path(path))
    return {"name": f"{maker.__module__}.{maker.__qualname__}", "settings": settings, "sources": sources}
