"""Task configurations for lmms-eval; the folder itself is what `--include_path` takes."""
