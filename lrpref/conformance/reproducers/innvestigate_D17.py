"""iNNvestigate hands an input that enters a sum twice its relevance twice.

library: innvestigate
dimension: D17
expected: 1.0
observed: 2.0
"""

import numpy as np
import tensorflow as tf
from innvestigate.analyzer import LRPZ

tf.compat.v1.disable_eager_execution()

# f = x + x = 2x: each summand has half of R, which is f, and both together f.
inputs = tf.keras.Input((1,))
total = tf.keras.layers.Add()([inputs, inputs])
model = tf.keras.Model(inputs, total)
x = np.array([[3.0]])
R = LRPZ(model).analyze(x)
print(round(float(R.sum() / model.predict(x, verbose=0).sum()), 4))
