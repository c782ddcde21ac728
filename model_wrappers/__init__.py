"""Masked multi-encoder models: families, masking at the fusion, generation, entry points of the frameworks."""
