"""The dimensions in which libraries differ, each in one sentence."""

SENTENCES = {
    "D1": "Stabilizer: eps has the sign of z, with sign(0) = +1; some libraries add +eps whatever the sign.",
    "D2": "Size of eps: what is asked for, under every rule; some libraries have one that cannot be changed.",
    "D3": "Bias in the denominator of LRP-0 and LRP-epsilon: the bias is neuron j = 0 and takes its part.",
    "D4": "Gamma and the bias: LRP-gamma favours a positive bias too, b + gamma b+.",
    "D5": "Formula of gamma: the chapter's, or the generalized one for inputs and outputs of any sign.",
    "D6": "z-plus: (a w)+ over sum (a w)+ + b+, the input clamped together with the weight.",
    "D7": "Alpha-beta and the bias: b+ in the alpha part, b- in the beta part.",
    "D8": "Alpha-beta: alpha - beta = 1; some libraries write alpha + beta = 1.",
    "D9": "One-sided neuron under alpha-beta: inputs receive alpha R or -beta R, the rest is dropped.",
    "D11": "w^2: the bias has no part in the denominator.",
    "D12": "Borders: only taps in the image count; an explicit padding layer receives relevance.",
    "D13": "z^B: the bias cancels, since it is in all three terms; only taps in the image have l and h.",
    "D14": "Max pooling: the first maximum in row-major order takes all, in a window of zeros too.",
    "D15": "Average pooling: proportional to the activations; some libraries share out evenly.",
    "D16": "Batch norm: folded into the linear layer beside it before any rule applies.",
    "D17": "Sums: proportional to the signed summands.",
    "D18": "Initial relevance: that of the explained class alone, its score; some libraries start elsewhere.",
    "D19": "Activations: relevance passes through unchanged, whatever their slope.",
    "D21": "Geometry: stride, padding, dilation and groups are those of the layer.",
    "D22": "A module used twice: each use has its own activations.",
}
