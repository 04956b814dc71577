"""Read model checkpoints of all supported formats, and download them."""
