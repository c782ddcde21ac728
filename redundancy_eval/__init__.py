"""redundancy-eval: which vision encoders does a multimodal model need, for what, and how sure are we?

`read` turns finished runs into a `ScoreTable` for each model. The public names are imported when they are first used,
so that `import redundancy_eval` and the command line stay light.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redundancy_eval.api import DataError, Options, SampleScores, ScoreTable, SetupError, read

__version__ = "0.1.0"
__all__ = ["DataError", "Options", "SampleScores", "ScoreTable", "SetupError", "read"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from redundancy_eval import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
