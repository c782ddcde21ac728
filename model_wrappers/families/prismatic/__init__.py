"""Prismatic and OpenVLA."""
