"""The parts of gpu_check.py: one idea a module, and what they share in check.py."""
