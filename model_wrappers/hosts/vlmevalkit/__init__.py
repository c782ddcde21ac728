"""Masked models in VLMEvalKit."""
