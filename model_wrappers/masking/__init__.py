"""A model under a mask: native families, any transformers model, and what stands in for a dropped encoder."""
