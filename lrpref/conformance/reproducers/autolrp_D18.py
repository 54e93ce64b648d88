"""autoLRP starts from relevance 1, not from the score.

library: autolrp
dimension: D18
expected: 5.0
observed: 1.0
"""

import autolrp
import torch

# The chapter starts from the score f = 5 of the explained class; without biases LRP-0 conserves it.
layer = torch.nn.Linear(2, 2, bias=False)
layer.load_state_dict({"weight": torch.tensor([[4.0, 1.0], [1.0, 2.0]])})
x = autolrp.tensor(torch.tensor([[1.0, 1.0]]))
layer(x)[0, 0].lrp()
print(round(x.relevance.sum().item(), 4))
