"""Stage `summary`."""
