"""Masked multi-encoder models: families, masking at the fusion, generation, entry points of the frameworks."""

from redundancy_eval import place

place.check(__file__)
