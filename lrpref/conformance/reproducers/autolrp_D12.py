"""autoLRP takes a padding with unequal sides for a layer of its own, whose border keeps its R.

library: autolrp
dimension: D12
expected: [0.4, 0.6]
observed: [0.3333, 0.5]
"""

import autolrp
import torch

# PyTorch's convolutions pad both sides alike: any other padding is an operation before them, and autoLRP sees
# no more. As padding of the convolution it is no input: with l = -1, h = 3 and w = (1, 1, 1) at x = (1, 2),
# x w - l w = (2, 3), over 5. The border would have 0 + 1 = 1 of 6, leaving (2, 3) / 6.
layer = torch.nn.Conv2d(1, 1, (1, 3), bias=False)
torch.nn.init.ones_(layer.weight)
x = autolrp.tensor(torch.tensor([[[[1.0, 2.0]]]]))
rules = {**autolrp.BASE, "ConvolutionBackward": ("zbox", {"low": -1.0, "high": 3.0})}
layer(torch.nn.functional.pad(x, (1, 0)))[0, 0, 0, 0].lrp(rule=rules)
R = x.relevance
print([round(r, 4) for r in R.flatten().tolist()])
