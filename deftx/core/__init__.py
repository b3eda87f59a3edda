"""The papers' objects: differences, low-rank matrices, masks, sparse vectors; their algebra and
their files."""
