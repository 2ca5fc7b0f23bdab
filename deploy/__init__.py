"""How the worker is deployed."""
