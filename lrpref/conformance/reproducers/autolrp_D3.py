"""autoLRP scales R by |z0| / (|z0| + |b|), z0 being z without the bias b.

library: autolrp
dimension: D3
expected: [1.5, 1.0]
observed: [0.375, 0.25]
"""

import autolrp
import torch

# R_j = a_j w_j / z R. With z = 1*3 + 2*1 - 3 = 2: (3/2, 2/2).
layer = torch.nn.Linear(2, 1)
layer.load_state_dict({"weight": torch.tensor([[3.0, 1.0]]), "bias": torch.tensor([-3.0])})
x = autolrp.tensor(torch.tensor([[1.0, 2.0]]))
layer(x)[0, 0].lrp()
R = x.relevance
print([round(r, 4) for r in R.flatten().tolist()])
