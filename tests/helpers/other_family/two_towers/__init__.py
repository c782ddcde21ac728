"""Two Towers: a ViT and a ConvNeXt, each projected to the width of a Llama, added token by token."""
