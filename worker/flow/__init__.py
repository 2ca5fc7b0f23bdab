"""How records flow through a run: admitted, bounded, in order, and committed when they are done."""
