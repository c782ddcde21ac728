"""Numbers that others published, each with how it is known."""
