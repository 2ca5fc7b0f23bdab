"""Ad-hoc questions to the store: a text or a picture, and what is nearest to it."""
