"""Changing the model behind the alias while workers run: `entityclip migrate`."""
