"""Clusters of attention heads by their weights, and whether they are real."""

from headway.clusters.job import WeightClusters, predecessors
from headway.clusters.labels import GivenLabels, open_labels

__all__ = ["GivenLabels", "WeightClusters", "open_labels", "predecessors"]
