"""Stage `coverage`."""
