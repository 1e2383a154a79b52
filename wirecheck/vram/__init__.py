"""What a training step takes on a GPU: the trace, the allocator, the GPUs; the formula where nothing is traced."""
