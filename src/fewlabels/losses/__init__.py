"""Every equation of the papers, as pure functions on tensors: natural logarithm, mean over the batch unless said."""

from fewlabels.losses.adversarial import virtual_adversarial, virtual_adversarial_direction
from fewlabels.losses.attention import attention_divergence
from fewlabels.losses.clustering import kmeans, nearest_centroid
from fewlabels.losses.consistency import confident, fixmatch, indexed_by_mask
from fewlabels.losses.entropy import mean_entropy, negative_batch_entropy
from fewlabels.losses.inversion import input_reconstruction, layer_errors, multiscale_reconstruction, reconstructions
from fewlabels.losses.locality import class_activation_maps, locality, map_area, probability_weighted_maps

__all__ = [
    "attention_divergence",
    "class_activation_maps",
    "confident",
    "fixmatch",
    "indexed_by_mask",
    "input_reconstruction",
    "kmeans",
    "layer_errors",
    "locality",
    "map_area",
    "mean_entropy",
    "multiscale_reconstruction",
    "nearest_centroid",
    "negative_batch_entropy",
    "probability_weighted_maps",
    "reconstructions",
    "virtual_adversarial",
    "virtual_adversarial_direction",
]
