"""Stage `full`."""
