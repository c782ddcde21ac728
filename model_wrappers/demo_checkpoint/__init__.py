"""The bundled demo checkpoint, in the released Eagle format."""
