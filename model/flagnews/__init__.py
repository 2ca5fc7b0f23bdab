"""FlagNews: a small made benchmark in which a name says nothing about looks and an explanation does."""
