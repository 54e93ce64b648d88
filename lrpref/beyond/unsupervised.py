"""Fitted k-means and one-class SVMs as networks: Neuralization-Propagation, Section 10.4.

Both are a soft minimum over distances or discriminants: the pooling of the log-odds head, too. Distances
and discriminants are sums of what each input contributes, over which the four steps run as over any sum.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from lrpref.checks import whole
from lrpref.errors import BadNetwork
from lrpref.kernels.operations import Array
from lrpref.layers import SoftMin, SquaredDifferences, Total, WeightedDifferences
from lrpref.network import Network, chain


def kmeans(fitted: Any, cluster: int, data: Any) -> Network:
    """
    Rewrite the membership in a cluster as a network (Kauffmann et al. 2022).

    The output is the margin f_c, by how much closer x is to centre c than to any other, squared::

        f_c = min over k of h_k,   h_k = |x - mu_k|^2 - |x - mu_c|^2
                                       = 2 (mu_c - mu_k) . (x - (mu_c + mu_k) / 2)

    Its relevance is shared by R_k = softmin(beta h)_k f_c, and from there in proportion to contributions that
    are counted from the midpoints. So it sums to f_c wherever no h_k is 0, unless the composite has a
    stabilizer. The first author's demo, github.com/jacobkauffmann/neon_demo, hands on the same, but for 1e-9
    that it adds to h_k, and a beta of all data: 1 over the mean margin, each point's in its own cluster.

    Parameters
    ----------
    fitted : sklearn.cluster.KMeans
        A fitted model with two or more clusters.
    cluster : int
        The cluster c.
    data : array_like, shape (N, J)
        What the model was fitted on: the stiffness beta is 1 over the mean f_c of the cluster's members.

    Returns
    -------
    Network
        From (J,) to (1,); its soft minimum holds beta.

    Raises
    ------
    BadNetwork
        If the model is none, is not fitted, has one cluster or not this one; or no data lie in it.
    """
    _check_fitted(fitted, "sklearn.cluster", "KMeans", "cluster_centers_")
    centres = np.asarray(fitted.cluster_centers_, np.float64)
    if len(centres) < 2:
        raise BadNetwork("this KMeans has one cluster: there is no other to tell it from")
    cluster = whole("cluster", cluster, 0, len(centres) - 1, BadNetwork)
    own, others = centres[cluster], np.delete(centres, cluster, axis=0)
    contributions = WeightedDifferences(weight=2 * (own - others), midpoint=(own + others) / 2)
    beta = 1 / _mean_margin(own, others, data)
    layers = [
        ("contributions", contributions),
        ("discriminants", Total()),
        ("margin", SoftMin(beta, hard=True, reference="root")),
    ]
    return chain(
        layers,
        own.shape,
        classes=(f"cluster {cluster}",),
        name=f"k-means, cluster {cluster}",
        provenance=_provenance(fitted),
    )


def _mean_margin(own: Array, others: Array, data: Any) -> float:
    """Mean of f_c over the data that lie in the cluster."""
    try:
        x = np.asarray(data, np.float64)
    except (TypeError, ValueError):
        x = np.zeros(0)
    wanted = len(own)
    if x.ndim != 2 or x.shape[1] != wanted or not np.isfinite(x).all():
        raise BadNetwork(f"data are {x.shape}: finite numbers of shape (N, {wanted}) are wanted")
    # h_k as in `kmeans`, seen from mu_c: one matrix product, and nothing cancels in data far from 0
    h = 2 * (x - own) @ (own - others).T + ((own - others) ** 2).sum(axis=1)
    margins = h.min(axis=1)
    members = margins[margins > 0]
    if not len(members):
        raise BadNetwork("none of the data lie in this cluster: there is no scale for its stiffness")
    return float(members.mean())


def one_class_svm(fitted: Any) -> Network:
    """
    Rewrite the outlierness of a one-class SVM with RBF kernel as a network (Kauffmann et al. 2020).

    The output is -log(score_samples), a soft minimum of distances to the support vectors u_j::

        o = -log sum_j exp(-h_j),   h_j = gamma |x - u_j|^2 - log alpha_j
        R_j = softmin(h)_j o,       R_i = sum_j (x_i - u_ij)^2 / |x - u_j|^2 R_j

    R_j is derived here: the deep Taylor decomposition at the reference point h - o, where the soft minimum is
    0 and up to which it is linear. R_i is that of a squared distance on the way from u_j to x. The paper's
    equations were not at hand; its first author's later code for a soft minimum of squared distances,
    `MahalanobisKDE.explain` in anomalies/src/models.py of github.com/jacobkauffmann/unsupervised-ch, hands on
    the same, but for 1e-6 that it adds to the squared distance. So relevance sums to o wherever x is no
    support vector, unless the composite has a stabilizer.

    The alpha sum to nu n, as scikit-learn has them, not to 1; so o may be negative.

    Parameters
    ----------
    fitted : sklearn.svm.OneClassSVM
        A fitted model with kernel `rbf`.

    Returns
    -------
    Network
        From (J,) to (1,); `provenance["offset"]` is the model's, so that exp(-o) - offset is its
        decision function.

    Raises
    ------
    BadNetwork
        If the model is none, is not fitted, has another kernel or was fitted on sparse data.
    """
    _check_fitted(fitted, "sklearn.svm", "OneClassSVM", "dual_coef_")
    if fitted.kernel != "rbf":
        raise BadNetwork(f"this OneClassSVM has kernel {fitted.kernel!r:.60}: only 'rbf' measures distances")
    if not isinstance(fitted.dual_coef_, np.ndarray):
        raise BadNetwork("this OneClassSVM was fitted on sparse data: fit it on an array")
    vectors = np.asarray(fitted.support_vectors_, np.float64)
    layers = [
        ("contributions", SquaredDifferences(vectors, float(fitted._gamma))),
        ("distances", Total(-np.log(fitted.dual_coef_[0]))),
        ("outlierness", SoftMin(reference="root")),
    ]
    return chain(
        layers,
        vectors.shape[1:],
        classes=("outlierness",),
        name="one-class SVM",
        provenance={**_provenance(fitted), "offset": float(fitted.offset_[0])},
    )


def _check_fitted(fitted: Any, module: str, name: str, attribute: str) -> None:
    try:
        kind = getattr(importlib.import_module(module), name)
    except ImportError:
        raise BadNetwork(f"a fitted {module}.{name} is wanted: pip install scikit-learn") from None
    if not isinstance(fitted, kind):
        raise BadNetwork(f"a fitted {module}.{name} is wanted; got {type(fitted).__name__}")
    if not hasattr(fitted, attribute):
        raise BadNetwork(f"this {name} is not fitted: call its fit first")


def _provenance(fitted: Any) -> dict[str, Any]:
    kind = type(fitted)
    return {
        "model": f"{kind.__module__}.{kind.__name__}",
        "scikit-learn": importlib.import_module("sklearn").__version__,
    }
