"""What stands in `deploy/`: rendered, checked by the tools of its field, and run."""
