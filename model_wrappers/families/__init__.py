"""The model families: what is known of each stands in its folder."""
