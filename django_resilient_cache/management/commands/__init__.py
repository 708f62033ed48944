"""The package's management commands."""
