"""What a person who watches the worker sees: metrics, health, logs, and the pages they are served on."""
