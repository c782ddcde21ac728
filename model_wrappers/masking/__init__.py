"""Models under a mask: `load` is the door to one, `checked_arguments` and `ablations` stand beside it without torch."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redundancy_eval.model_wrappers.masking.loading import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    # Not at import: it takes torch and transformers, which checking a command line does not.
    if name == "load":
        from redundancy_eval.model_wrappers.masking.loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
