"""What `entityclip bench` measures.

Shared: `rounds` (ways of doing the same in turns), `machine` (facts of the machine), `report` (what is
printed and written). A benchmark's module holds a typer command and its `EXAMPLE`, imports torch and the
model only inside functions, and is wired in `worker.cli.bench`.
"""
