"""How much may be in flight at once, in bytes and in posts."""

from __future__ import annotations


class Budget:
    """Bounds what was admitted and has no outcome yet. One thread only.

    Args:
        limit_bytes: of all posts together. A post that is larger than this runs alone.
        limit_posts: every queue of the pipeline holds this many, so none is ever found full.
    """

    def __init__(self, limit_bytes: int, limit_posts: int) -> None:
        if limit_bytes < 1 or limit_posts < 1:
            raise ValueError(f"a budget of {limit_bytes} bytes and {limit_posts} posts admits nothing")
        self._limit_bytes = limit_bytes
        self._limit_posts = limit_posts
        self.used_bytes = 0
        self.used_posts = 0

    def try_take(self, cost_bytes: int) -> bool:
        """Admit a post of this size, or say that it must wait."""
        fits = self.used_bytes + cost_bytes <= self._limit_bytes and self.used_posts < self._limit_posts
        if not fits and self.used_posts:
            return False
        self.used_bytes += cost_bytes
        self.used_posts += 1
        return True

    def give_back(self, cost_bytes: int) -> None:
        """Return what `try_take` took for one post."""
        if cost_bytes > self.used_bytes or not self.used_posts:
            raise ValueError(f"{cost_bytes} bytes returned that were never taken")
        self.used_bytes -= cost_bytes
        self.used_posts -= 1
