"""What the papers speak of: differences, low-rank matrices, masks, sparse vectors; their algebra and files."""
