"""Stage `sparse`."""
