"""Stage `diagnostics`."""
