"""Stage `cards`."""
