"""Models beyond deep networks, rewritten as networks: Section 10.4 of Montavon et al. 2019.

A rewritten model is a `Network` like any other: it computes what the model computes, and is explained, saved
and verified like any other.
"""

from lrpref.beyond.lstm import draw_tokens, embed, per_token, unroll
from lrpref.beyond.pairwise import Match, Pairs, Side, draw_pairs, features, match, second_order
from lrpref.beyond.unsupervised import kmeans, one_class_svm

__all__ = [
    "Match",
    "Pairs",
    "Side",
    "draw_pairs",
    "draw_tokens",
    "embed",
    "features",
    "kmeans",
    "match",
    "one_class_svm",
    "per_token",
    "second_order",
    "unroll",
]
