"""What an LLM knows of the entities that a post names, and how they would look in a photograph."""
