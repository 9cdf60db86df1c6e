"""Filter patterns: AWS's event filter patterns, compiled once to a predicate.

Read in this order: numbers, wildcard, operators (one leaf), pattern (the tree), compile (tree → function), when and
where (functions of a change).
"""

from connector.filters.pattern import Pattern, parse_pattern
from connector.filters.when import ChangePredicate, compile_when, filter_batch, needed_images_of_when
from connector.filters.where import ItemPredicate, Where, compile_where, decide, needed_images_of_where

__all__ = [
    "ChangePredicate",
    "ItemPredicate",
    "Pattern",
    "Where",
    "compile_when",
    "compile_where",
    "decide",
    "filter_batch",
    "needed_images_of_when",
    "needed_images_of_where",
    "parse_pattern",
]
