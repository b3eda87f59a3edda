"""Vectors of others, model folders, other libraries' formats."""
