"""Result folders of lmms-eval."""

from redundancy_eval.readers.lmms_eval.results import Reader

__all__ = ["Reader"]
