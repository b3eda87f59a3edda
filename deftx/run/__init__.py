"""What cannot change a result: costs, devices, warm start, progress, fingerprints."""
