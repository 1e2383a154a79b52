"""What a training step takes on a GPU: the formula, and the catalogue of GPUs. Torch-free."""
