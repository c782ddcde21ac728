"""Vision encoders that several families share."""
