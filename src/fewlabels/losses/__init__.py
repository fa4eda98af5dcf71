"""Every equation of the papers, as pure functions on tensors: natural logarithm, mean over the batch unless said."""

from fewlabels.losses.adaptive import fairness, learning_effect, truncated_gaussian
from fewlabels.losses.adversarial import (
    adversarial_logits,
    mean_divergence,
    virtual_adversarial_direction,
)
from fewlabels.losses.attention import attention_divergence
from fewlabels.losses.clustering import kmeans, nearest_centroid
from fewlabels.losses.consistency import confident, fixmatch, indexed_by_mask, mean_of_confident
from fewlabels.losses.divergence import alpha_divergence, power_mean
from fewlabels.losses.entropy import mean_entropy, negative_batch_entropy
from fewlabels.losses.generative import feature_matching, real_or_generated
from fewlabels.losses.inversion import (
    input_errors,
    input_reconstruction,
    layer_errors,
    multiscale_reconstruction,
    next_layer_errors,
    reconstructions,
)
from fewlabels.losses.locality import class_activation_maps, locality, map_area, probability_weighted_maps
from fewlabels.losses.mixing import larger_share, mixed_with_shuffled
from fewlabels.losses.pairs import bhattacharyya, pair_loss
from fewlabels.losses.ramps import exponential_ramp, linear_ramp
from fewlabels.losses.similarity import attention_to, graph_contrast, label_graph, push
from fewlabels.losses.targets import align, moving_average, sharpen, soft_cross_entropy

__all__ = [
    "adversarial_logits",
    "align",
    "alpha_divergence",
    "attention_divergence",
    "attention_to",
    "bhattacharyya",
    "class_activation_maps",
    "confident",
    "exponential_ramp",
    "fairness",
    "feature_matching",
    "fixmatch",
    "graph_contrast",
    "indexed_by_mask",
    "input_errors",
    "input_reconstruction",
    "kmeans",
    "label_graph",
    "larger_share",
    "layer_errors",
    "learning_effect",
    "linear_ramp",
    "locality",
    "map_area",
    "mean_divergence",
    "mean_entropy",
    "mean_of_confident",
    "mixed_with_shuffled",
    "moving_average",
    "multiscale_reconstruction",
    "nearest_centroid",
    "negative_batch_entropy",
    "next_layer_errors",
    "pair_loss",
    "power_mean",
    "probability_weighted_maps",
    "push",
    "real_or_generated",
    "reconstructions",
    "sharpen",
    "soft_cross_entropy",
    "truncated_gaussian",
    "virtual_adversarial_direction",
]
