"""Stage `world`."""
