"""What became of a post, and why two posts match or do not."""
