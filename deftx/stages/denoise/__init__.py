"""Stage `denoise`."""
