"""Work folders of VLMEvalKit.

`files` knows the names of files, `samples` their rows, `judged` verdicts, `spreadsheets` cells; `results` puts a run
together, and `settle` checks what can be checked once masks are known.
"""

from redundancy_eval.readers.vlmevalkit.results import Reader
from redundancy_eval.readers.vlmevalkit.settle import settle

__all__ = ["Reader", "settle"]
