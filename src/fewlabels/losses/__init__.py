"""Every equation of the papers, as pure functions on tensors: natural logarithm, mean over the batch unless said."""

from fewlabels.losses.clustering import kmeans, nearest_centroid
from fewlabels.losses.consistency import confident, fixmatch, indexed_by_mask
from fewlabels.losses.entropy import mean_entropy, negative_batch_entropy
from fewlabels.losses.locality import class_activation_maps, locality, probability_weighted_maps

__all__ = [
    "class_activation_maps",
    "confident",
    "fixmatch",
    "indexed_by_mask",
    "kmeans",
    "locality",
    "mean_entropy",
    "nearest_centroid",
    "negative_batch_entropy",
    "probability_weighted_maps",
]
