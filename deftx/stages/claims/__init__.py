"""Stage `claims`."""
