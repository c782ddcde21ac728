"""Models under a mask. `load` is the one door to them, and `Prompt` what is put to them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redundancy_eval.model_wrappers.masking.loading import load
    from redundancy_eval.model_wrappers.masking.prompt import Prompt

__all__ = ["Prompt", "load"]


def __getattr__(name: str) -> Any:
    # Not at import: both take torch, which checking a command line does not.
    if name == "load":
        from redundancy_eval.model_wrappers.masking.loading import load

        return load
    if name == "Prompt":
        from redundancy_eval.model_wrappers.masking.prompt import Prompt

        return Prompt
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
