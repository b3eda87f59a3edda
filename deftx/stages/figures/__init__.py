"""Stage `figures`."""
