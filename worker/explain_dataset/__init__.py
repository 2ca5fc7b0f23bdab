"""Explains every caption of a data set: `entityclip explain`."""
