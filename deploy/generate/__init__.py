"""Writes the generated files of `deploy/`: `python -m deploy.generate`."""
