"""zennit's default is to start from the whole output vector, summed over all classes.

library: zennit
dimension: D18
expected: 5.0
observed: 8.0
"""

import torch
from zennit.attribution import Gradient
from zennit.composites import LayerMapComposite
from zennit.rules import Epsilon

# The chapter starts from the score f = 5 of the explained class; without biases LRP-0 conserves it.
layer = torch.nn.Linear(2, 2, bias=False)
layer.load_state_dict({"weight": torch.tensor([[4.0, 1.0], [1.0, 2.0]])})
composite = LayerMapComposite([(torch.nn.Linear, Epsilon(epsilon=0.0))])
with Gradient(torch.nn.Sequential(layer), composite) as attributor:
    output, R = attributor(torch.tensor([[1.0, 1.0]]))
print(round(R.sum().item(), 4))
