"""Maps of heads are those of scikit-learn's exact t-SNE, in the same sense: as near to the same probabilities."""

import numpy as np
import pytest
from scipy.spatial.distance import squareform
from sklearn.manifold import TSNE
from sklearn.manifold._t_sne import _joint_probabilities

from headway.studies.weight_clusters.tsne import joint_probabilities, tsne_maps

PERPLEXITY = 11 / 3


def divergence(p, flat):
    """Kullback-Leibler, of the probabilities of neighbours from those on the map."""
    near = 1 / (1 + ((flat[:, None] - flat[None]) ** 2).sum(axis=-1))
    np.fill_diagonal(near, 0)
    q = near / near.sum()
    return float((p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum())


def heads(n_maps=8):
    """Coordinates that are a PCA's: the first two vary most. Half of the maps hold two groups."""
    random = np.random.default_rng(0)
    points = random.normal(size=(n_maps, 12, 11)) * np.linspace(2, 0.5, 11)
    points[::2, ::2, 0] += 8
    return points


def test_probabilities_are_scikit_learns():
    points = heads()
    for ours, own in zip(joint_probabilities(points, PERPLEXITY), points, strict=True):
        d = ((own[:, None] - own[None]) ** 2).sum(axis=-1)
        theirs = squareform(_joint_probabilities(d, PERPLEXITY, 0))
        np.testing.assert_allclose(ours, theirs, atol=1e-5)  # its search stops at 1e-5 of the entropy


def test_maps_are_as_good_as_scikit_learns():
    """Many maps of these points are about as good; ours diverge no more, on average, and tell the groups apart."""
    points = heads()
    ours, theirs = [], []
    for flat, own in zip(tsne_maps(points), points, strict=True):
        (p,) = joint_probabilities(own[None] / own[:, 0].std(), PERPLEXITY)
        start = own[:, :2] / own[:, 0].std() * 1e-4
        tsne = TSNE(perplexity=PERPLEXITY, init=start, method="exact", max_iter=500, random_state=0)
        ours.append(divergence(p, flat))
        theirs.append(divergence(p, tsne.fit_transform(own / own[:, 0].std())))
    assert np.mean(ours) < 1.1 * np.mean(theirs)
    for flat in tsne_maps(points)[::2]:
        one, other = flat[::2], flat[1::2]
        between = np.linalg.norm(one.mean(axis=0) - other.mean(axis=0))
        assert between > max(np.linalg.norm(group - group.mean(axis=0), axis=1).max() for group in (one, other))


@pytest.mark.parametrize("shape", [(2, 3, 2), (2, 5, 1)])
def test_too_few_heads_have_no_map(shape):
    assert np.isnan(tsne_maps(np.ones(shape))).all()
