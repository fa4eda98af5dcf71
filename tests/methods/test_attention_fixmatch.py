"""FixMatch with agreeing attention maps against its formula."""

import pytest
import torch
import torch.nn.functional as F

from fewlabels import losses
from fewlabels.methods.attention_fixmatch import AttentionFixMatch
from fewlabels.types import UserError
from tests.methods.helpers import context, make_batch, median_confidence, model


def test_attention_fixmatch_counts_confident_images_alone():
    network, batch = model("attention_fixmatch").eval(), make_batch()
    threshold = median_confidence(network, batch)
    output = AttentionFixMatch(threshold, weight=2.0, attention_weight=3.0).step(context(network), batch)
    weak, strong = (network.activations(batch.unlabelled[name]) for name in ("weak", "strong"))
    sure = weak.logits.softmax(1).amax(1) >= threshold
    assert 0 < sure.sum() < 24
    attention = losses.attention_divergence(weak.attention, strong.attention)[sure].sum() / 24
    expected = F.cross_entropy(network(batch.labelled["weak"]), batch.labels)
    expected = expected + 2 * losses.fixmatch(weak.logits, strong.logits, threshold) + 3 * attention
    torch.testing.assert_close(output.loss, expected)
    with pytest.raises(UserError, match="model simple_cnn has none: use model=attention_wide_resnet_28_2"):
        AttentionFixMatch().step(context(model()), batch)
