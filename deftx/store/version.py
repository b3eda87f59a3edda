"""The version of this code, which also holds where the package is not installed."""

VERSION = "0.1.0"
