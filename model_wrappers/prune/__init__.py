"""Checkpoints without encoders that answer as a mask does."""
