"""Stage `trim`."""
