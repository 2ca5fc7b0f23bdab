"""The model as it serves: pictures and texts in, vectors out, as quick as the device allows."""
