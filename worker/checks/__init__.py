"""Whether what the configuration names can be reached."""
