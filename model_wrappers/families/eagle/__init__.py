"""Eagle X."""
