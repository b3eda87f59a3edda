"""Stage `mask`."""
