"""redundancy-eval: which vision encoders does a multimodal model need, for what, and how sure are we?

`read` turns finished runs into a `ScoreTable` for each model; `metrics` holds the measures, `statistics` how sure they
are. The public names are imported when they are first used, so that `import redundancy_eval` and the command line stay
light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redundancy_eval import metrics, statistics
    from redundancy_eval.api import DataError, Options, SampleScores, ScoreTable, SetupError, read

__version__ = "0.1.0"
__all__ = ["DataError", "Options", "SampleScores", "ScoreTable", "SetupError", "metrics", "read", "statistics"]


def __getattr__(name: str) -> Any:
    if name in ("metrics", "statistics"):
        return import_module(f"redundancy_eval.{name}")
    if name in __all__:
        return getattr(import_module("redundancy_eval.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
