"""Why LRP is right: Taylor decomposition of a whole network, and of one neuron at a time.

`simple.py` and what is wrong with it (`shattered.py`, `spurious.py`): Section 10.1 of Montavon et al. 2019;
`deep.py`: Section 10.2.3 and Appendix 10.B.
"""

from lrpref.theory.deep import (
    BoxReference,
    Decomposition,
    EpsilonReference,
    Expansion,
    GammaReference,
    Reference,
    RelevanceModel,
    SquareReference,
    ZeroReference,
    decompose,
    expand,
    modulation,
    neurons,
)
from lrpref.theory.simple import Taylor, nearest_root, simple_taylor

__all__ = [
    "BoxReference",
    "Decomposition",
    "EpsilonReference",
    "Expansion",
    "GammaReference",
    "Reference",
    "RelevanceModel",
    "SquareReference",
    "Taylor",
    "ZeroReference",
    "decompose",
    "expand",
    "modulation",
    "nearest_root",
    "neurons",
    "simple_taylor",
]
