"""Eagle2-9B."""
