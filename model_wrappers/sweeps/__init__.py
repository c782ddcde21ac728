"""Every mask of one model at once."""
