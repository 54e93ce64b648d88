"""The comparison methods of Section 10.1: gradients, averages of gradients, and patches that are covered.

They ask the network for scores or gradients at many points, where LRP looks once at its inside.
"""

from lrpref.baselines.gradients import (
    completeness,
    gradient_times_input,
    integrated_gradients,
    smooth_grad,
)
from lrpref.baselines.patches import occlusion
from lrpref.baselines.score import Score

__all__ = [
    "Score",
    "completeness",
    "gradient_times_input",
    "integrated_gradients",
    "occlusion",
    "smooth_grad",
]
