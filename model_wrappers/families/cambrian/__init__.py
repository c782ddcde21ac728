"""Cambrian-1."""
