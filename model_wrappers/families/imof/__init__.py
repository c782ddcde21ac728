"""I-MoF."""
