"""What is wrong with users' data."""


class DataError(Exception):
    """A user's file cannot be had or read, or does not hold what the config says."""
