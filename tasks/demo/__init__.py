"""The demo benchmark: small tasks whose images are drawn by code."""
