"""Stage `config`."""
