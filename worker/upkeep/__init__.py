"""What is done to points that stand in the store: explained later, deleted when old."""
