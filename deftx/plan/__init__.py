"""From a config to artefacts and their parameters. Free of torch."""
