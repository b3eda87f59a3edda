"""Stage `convert`."""
