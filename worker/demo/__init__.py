"""`entityclip demo`: a stream of posts drawn on the spot, the real pipeline over it, and what became of it.

stream   posts about known entities, as a JSONL file, and the answer
broken   posts that no worker can process
judge    matches against the answer
report   terminal and page
show     all of it, in order
"""
