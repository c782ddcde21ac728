"""Released checkpoints: where they are, their tensors, and which they are."""
