"""The command line: `main` and one module a command.

Nothing heavy is imported before a command runs, so that `entityclip --help` is quick.
"""
