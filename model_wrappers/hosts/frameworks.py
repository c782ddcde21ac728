"""The frameworks that a sweep can be put to, by name; neither is imported."""

from redundancy_eval.model_wrappers.hosts.lmms_eval.framework import LmmsEval
from redundancy_eval.model_wrappers.hosts.vlmevalkit.framework import VlmEvalKit
from redundancy_eval.model_wrappers.sweeps.route import Framework

_ALL: tuple[Framework, ...] = (LmmsEval(), VlmEvalKit())
FRAMEWORKS = {framework.name: framework for framework in _ALL}  # the first is the default
