"""What several workers share through Redis, and what stands in for it where there is none.

redis     the clients, and the one place that maps Redis's errors
breaker   leaves a dead server alone for a while
emitted   which pairs were emitted
attempts  how often a record was alone in flight when its worker died
"""
