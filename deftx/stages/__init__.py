"""One module per stage of the workflow: read artefacts, call the library, write one artefact."""
