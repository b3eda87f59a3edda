"""Checks of a config that need no data."""
