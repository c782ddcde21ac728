"""MoVA."""
