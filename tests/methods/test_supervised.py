"""The supervised baseline against its formula."""

import torch
import torch.nn.functional as F

from fewlabels.methods.supervised import Supervised
from tests.methods.helpers import context, make_batch, model


def test_supervised_is_the_cross_entropy_of_the_labelled_images():
    network, batch = model(), make_batch()
    logits = network(batch.labelled["weak"])
    expected = sum(logits[i].logsumexp(0) - logits[i, label] for i, label in enumerate(batch.labels)) / len(logits)
    output = Supervised().step(context(network), batch)
    torch.testing.assert_close(output.loss, expected)
    torch.testing.assert_close(output.terms["cross_entropy"], F.cross_entropy(logits, batch.labels).detach())
