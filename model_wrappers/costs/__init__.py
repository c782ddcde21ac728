"""What a model and a mask of it cost."""
