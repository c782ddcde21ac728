"""Masked models in lmms-eval."""
