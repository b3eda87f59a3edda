"""Stage `tables`."""
