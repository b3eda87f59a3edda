"""What the stage `tokens` is asked for. Free of torch."""

WHOLE = "whole"
"""In the place of a length: items are not cut."""
