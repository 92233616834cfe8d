"""The workspace: configuration, command line, places, whole outputs, cost and fingerprints."""
