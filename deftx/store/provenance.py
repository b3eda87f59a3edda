"""The provenance in an artefact's file, whatever its format. Free of torch."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from deftx.store.artefact import METADATA_KEY


def provenance_of(path: Path) -> dict[str, Any]:
    """The provenance of a safetensors or parquet artefact; empty for a file of another format and
    for one that cannot be read, which the stage that reads it reports."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="np") as file:
                text = (file.metadata() or {}).get(METADATA_KEY)
        elif path.suffix == ".parquet":
            text = (pq.read_schema(path).metadata or {}).get(METADATA_KEY.encode())
        else:
            return {}
        found = json.loads(text or "{}")
    except (OSError, SafetensorError, pa.ArrowInvalid, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
