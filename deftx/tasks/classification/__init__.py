"""A task of texts or pairs of texts, each of one class."""
