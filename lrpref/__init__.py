"""lrpref: the yardstick for Layer-wise Relevance Propagation.

Every unit of relevance is accounted for: what arrives at a layer reaches the layer's inputs, or is
booked to a named account. Start reading at `engine.py`, `rules.py`, `kernels/reference.py`.
"""

from lrpref.engine import relprop
from lrpref.explanation import Explanation, explain
from lrpref.network import Network, Node, load
from lrpref.plan import Plan

__all__ = ["Explanation", "Network", "Node", "Plan", "explain", "load", "relprop"]
__version__ = "0.1.0"
