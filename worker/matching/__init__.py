"""From a post's nearest neighbours to its matches."""

from worker.matching.evidence import Candidate, PairEvidence, asks_model, entities_of, free_parts
from worker.matching.matcher import Matcher
from worker.matching.rules import MatchRules, match_rules

__all__ = [
    "Candidate",
    "MatchRules",
    "Matcher",
    "PairEvidence",
    "asks_model",
    "entities_of",
    "free_parts",
    "match_rules",
]
