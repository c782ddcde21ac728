"""Task configurations for lmms-eval; the folder itself is what `--include_path` takes."""

from redundancy_eval import place

place.check(__file__)
