"""Cluster attention heads by their weights, and test whether the clusters are real."""

from headway.clusters.job import WeightClusters, predecessors
from headway.clusters.labels import GivenLabels, open_labels

__all__ = ["GivenLabels", "WeightClusters", "open_labels", "predecessors"]
