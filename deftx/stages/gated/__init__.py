"""Stage `gated`."""
