"""Image–text data sets: readers of the benchmarks' own files, and the prepared form that runs read."""
