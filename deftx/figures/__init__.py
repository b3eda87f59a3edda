"""The figures of a run: numbers in, a matplotlib figure out, all of one width and one style."""
