"""Stage `prior`."""
