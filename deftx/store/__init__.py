"""Bytes on disk: atomic writes, manifests, checksums, provenance, labelled items, locks."""
