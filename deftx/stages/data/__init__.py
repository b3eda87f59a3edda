"""Downloading and reading text and labelled items."""
