"""Conformance: what must hold for every file of conf/method/, and what each method promises by itself."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fewlabels import losses
from fewlabels.methods.attention_fixmatch import AttentionFixMatch
from fewlabels.methods.base import Context, UnlabelledSet
from fewlabels.methods.entropy import Entropy
from fewlabels.methods.fixmatch import FixMatch
from fewlabels.methods.inversion import Inversion
from fewlabels.methods.kmeans_fixmatch import KMeansFixMatch
from fewlabels.methods.pseudo_label import PseudoLabel
from fewlabels.methods.vat import VAT
from fewlabels.models.base import Activations, Classifier
from fewlabels.models.simple_cnn import SimpleCNN
from fewlabels.models.wide_resnet import WideResNet
from fewlabels.system.paths import conf_dir
from fewlabels.types import UserError
from tests.methods.helpers import CASES, built, context, make_batch, model, setting, whole

METHODS = sorted(file.stem for file in (conf_dir() / "method").glob("*.yaml"))
WITH_UNLABELLED = sorted(set(METHODS) - {"supervised"})


def test_frozen_statistics_are_frozen_for_a_block_alone():
    network = WideResNet(4, (16, 16), 3, depth=10, width=1)
    method, batch = VAT(iterations=1, warmup_epochs=0), make_batch()
    for _ in range(2):
        method.step(context(network), batch)
    assert network.blocks[0].bn1.num_batches_tracked == 2  # of the labelled passes, in the second step as in the first


def median_confidence(network, batch):
    """A threshold that some images pass and some do not."""
    return network(batch.unlabelled["weak"]).softmax(1).amax(1).quantile(0.5).item()


def test_no_method_escapes_these_tests():
    assert set(CASES) == set(METHODS)
    assert all(CASES[name].terms for name in WITH_UNLABELLED)


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_is_finite_with_a_gradient_for_every_weight(name, configure):
    it = setting(name, configure)
    for phase in it.method.phases:
        trained = [p for group in it.method.parameter_groups(it.network, phase) for p in group.parameters]
        output = it.method.step(it.ctx(phase=phase), it.batch)
        assert output.loss.ndim == 0
        output.loss.backward()
        assert trained
        assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in trained)
        assert all(not term.requires_grad for term in output.terms.values())
        it.network.zero_grad()
        it.method.zero_grad()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("labelled", "unlabelled"), [(8, 0), (8, 24)], ids=["no unlabelled image", "both"])
def test_a_part_of_a_batch_has_a_finite_loss(name, labelled, unlabelled, configure):
    """Micro-batches and batches in turn may lack one kind of image."""
    it = setting(name, configure, labelled=labelled)
    whole = it.batch
    if not unlabelled:
        views = {view: images[:0] for view, images in whole.unlabelled.items()}
        whole = replace(whole, unlabelled=views, unlabelled_index=whole.unlabelled_index[:0])
    for part in whole.split(2):
        output = it.method.step(it.ctx(), part)
        assert output.loss.isfinite()
        output.loss.backward()
        assert all(term.isfinite().all() for term in output.terms.values())
    assert all(p.grad.isfinite().all() for p in it.network.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", WITH_UNLABELLED)
def test_unlabelled_images_give_a_loss_and_a_gradient_by_themselves(name, configure):
    it = setting(name, configure, labelled=0)
    output = it.method.step(it.ctx(), it.batch)
    assert all(output.terms[term] > 0 for term in CASES[name].terms)
    output.loss.backward()
    assert next(it.network.parameters()).grad.abs().sum() > 0


@pytest.mark.parametrize("name", WITH_UNLABELLED)
def test_the_unlabelled_loss_falls_in_training(name, configure):
    it = setting(name, configure, labelled=0)
    trained = [p for group in it.method.parameter_groups(it.network, it.method.phases[0]) for p in group.parameters]
    optimiser = torch.optim.Adam(trained, lr=3e-3)
    history = []
    for _ in range(80):
        output = it.method.step(it.ctx(), it.batch)
        history.append(output.loss.item())
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
    assert history[-1] < history[0] - 0.1 * abs(history[0]), history


@pytest.mark.parametrize("name", METHODS)
def test_the_state_comes_back(name, configure):
    it, other = setting(name, configure), setting(name, configure)
    it.network.eval()
    output = it.method.step(it.ctx(), it.batch)
    it.method.after_update(it.ctx(), it.batch, {key: value.detach() for key, value in output.kept.items()})
    other.method.load_state_dict(it.method.state_dict())
    losses_of = [method.step(it.ctx(4), it.batch).loss for method in (other.method, it.method)]
    assert torch.equal(*losses_of)
    assert other.method.epoch_metrics() == it.method.epoch_metrics()


# Each method against its formula.


def test_entropy_is_eq_8():
    torch.manual_seed(1)
    network = WideResNet(4, (16, 16), 3, depth=10, width=1).eval()
    batch = make_batch()
    method = Entropy(alpha=0.8, beta=0.3, gamma=0.02)
    out = network.activations(torch.cat([batch.labelled["weak"], batch.unlabelled["weak"]]))
    q = out.logits.softmax(1)
    top = q.argmax(1)
    maps = losses.class_activation_maps(out.features, network.head.weight, top)
    cross_entropy = -q[:8].log().gather(1, batch.labels[:, None]).mean()
    each = -(q * q.log()).sum(1)
    mean = q.mean(0)
    batch_entropy = -(mean * mean.log()).sum()
    expected = cross_entropy + 0.8 * each.mean() - 0.3 * batch_entropy + 0.02 * losses.locality(maps).mean()
    torch.testing.assert_close(method.step(context(network), batch).loss, expected)
    weighted = Entropy(alpha=0, gamma=0.02, maps="probability_weighted").step(context(network), batch)
    maps = torch.einsum("bc,ck,bkhw->bhw", q, network.head.weight, out.features)
    torch.testing.assert_close(weighted.loss, cross_entropy + 0.02 * losses.locality(maps).mean())


class WithDropout(Classifier):
    """Batch norm and dropout, the two layers that notice a second pass."""

    name = "with_dropout"

    def __init__(self):
        super().__init__()
        self.norm, self.drop, self.head = nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Linear(3 * 16 * 16, 4)

    def compute(self, images):
        features = self.drop(self.norm(images))
        embedding = features.flatten(1)
        return Activations(self.head(embedding), features, embedding)

    def last_layer(self):
        return self.head


@pytest.mark.parametrize("network", [SimpleCNN(4, (16, 16), 3), WithDropout()], ids=["plain", "dropout"])
def test_accumulated_negative_batch_entropy_has_the_whole_batch_s_gradient(network):
    """Four micro-batches against one batch. With batch norm or dropout the reference sees the same parts' own passes."""
    method = Entropy(alpha=0.5, beta=0.7)
    batch = make_batch()
    parts = batch.split(4)
    stats = {k: v.clone() for k, v in network.named_buffers()}

    def gradient():
        values = [p.grad.clone() for p in network.parameters()]
        network.zero_grad()
        return values

    torch.manual_seed(3)
    method.prepare_parts(context(network), parts)
    assert all(torch.equal(v, stats[k]) for k, v in network.named_buffers())  # the measuring pass leaves no trace
    for part in parts:
        (method.step(context(network), part).loss / 4).backward()
    accumulated = gradient()

    torch.manual_seed(3)
    logits = [network(torch.cat([part.labelled["weak"], part.unlabelled["weak"]])) for part in parts]
    cross_entropy = F.cross_entropy(torch.cat([x[:2] for x in logits]), batch.labels)
    joined = torch.cat(logits)
    (cross_entropy + 0.5 * losses.mean_entropy(joined) + 0.7 * losses.negative_batch_entropy(joined)).backward()
    for ours, exact in zip(accumulated, gradient(), strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-4, atol=1e-7)


def test_locality_needs_a_network_with_maps():
    with pytest.raises(UserError, match="method.gamma=0.1 needs class activation maps, and model simple_cnn has none"):
        Entropy(gamma=0.1).step(context(model()), make_batch())


def test_fixmatch_is_the_sum_of_its_two_terms():
    network, batch = model(), make_batch()
    labelled, weak, strong = (
        network(x) for x in (batch.labelled["weak"], batch.unlabelled["weak"], batch.unlabelled["strong"])
    )
    threshold = median_confidence(network, batch)
    output = FixMatch(threshold, weight=2.0).step(context(network), batch)
    expected = F.cross_entropy(labelled, batch.labels) + 2 * losses.fixmatch(weak, strong, threshold)
    torch.testing.assert_close(output.loss, expected)
    assert 0 < output.terms["confident"] < 1


@pytest.mark.parametrize("name", ["supervised", "attention_fixmatch"], ids=["no batch norm", "batch norm"])
def test_fixmatch_has_the_gradient_of_one_pass_over_all_views(name):
    ours, joint, batch = model(name), model(name), make_batch()
    views = [batch.labelled["weak"], batch.unlabelled["weak"], batch.unlabelled["strong"]]
    labelled, weak, strong = joint(torch.cat(views)).split([len(view) for view in views])
    threshold = weak.softmax(1).amax(1).quantile(0.5).item()
    FixMatch(threshold).step(context(ours), batch).loss.backward()
    (F.cross_entropy(labelled, batch.labels) + losses.fixmatch(weak, strong, threshold)).backward()
    for a, b in zip(ours.parameters(), joint.parameters(), strict=True):
        if b.grad is not None:  # the attention's own weights take no part in it
            torch.testing.assert_close(a.grad, b.grad)


def relabel(method, logits, epoch):
    """One epoch's beginning, with these logits for images 10 .. 10 + N of 64 and the true label always 0."""
    index = torch.arange(10, 10 + len(logits))
    predicted = (torch.tensor(logits, dtype=torch.float32).log(), None)
    unlabelled = UnlabelledSet(index, lambda _: predicted, torch.zeros(len(logits), dtype=torch.long))
    return method.begin_epoch(Context(None, None, epoch=epoch), unlabelled)


def test_pseudo_labels_are_the_confident_predictions_of_the_whole_set():
    method = built(PseudoLabel(threshold=0.75, warmup_epochs=2))
    p = [[0.8, 0.2], [0.5, 0.5], [0.1, 0.9], [0.74, 0.26]]
    assert relabel(method, p, epoch=1).tolist() == []  # still warming up
    assert method.epoch_metrics()["pseudo_labels"] == 0
    assert relabel(method, p, epoch=2).tolist() == [10, 12]
    metrics = method.epoch_metrics()
    assert metrics["pseudo_label_histogram"] == [1, 1]
    assert metrics["pseudo_label_accuracy"] == 50
    assert metrics["pseudo_label_largest_class"] == 50
    batch = replace(make_batch(2, 2), unlabelled_index=torch.tensor([10, 12]))
    network = model()
    given = torch.cat([batch.labels, torch.tensor([0, 1])])
    expected = F.cross_entropy(network(torch.cat([batch.labelled["weak"], batch.unlabelled["weak"]])), given)
    torch.testing.assert_close(method.step(context(network), batch).loss, expected)


def test_refresh_forgets_and_accumulate_keeps():
    before, after = [[0.9, 0.1], [0.4, 0.6]], [[0.2, 0.8], [0.05, 0.95]]
    results = {}
    for update in ("refresh", "accumulate"):
        method = built(PseudoLabel(threshold=0.85, warmup_epochs=0, update=update))
        relabel(method, before, 0)
        results[update] = (relabel(method, after, 1).tolist(), method.state_dict()["labels"][10:12].tolist())
    assert results["refresh"] == ([11], [-1, 1])
    assert results["accumulate"] == ([10, 11], [0, 1])


def test_kmeans_fixmatch_corrected_is_the_text_s_formula():
    network, batch = model(), make_batch()
    threshold = median_confidence(network, batch)
    method = built(KMeansFixMatch(threshold=threshold, w_labeled=0.5, w_augment=0.2, w_kmeans=3.0, clusters=3))
    method.begin_epoch(context(network, seed=5), whole(batch))
    centroids = method.state_dict()["centroids"]
    z = network.activations(batch.unlabelled["plain"]).embedding
    distance = torch.cdist(z, centroids).square().amin(1).mean()
    weak, strong = network(batch.unlabelled["weak"]), network(batch.unlabelled["strong"])
    expected = 0.5 * F.cross_entropy(network(batch.labelled["flip"]), batch.labels)
    expected = expected + 0.2 * losses.fixmatch(weak, strong, threshold) + 3.0 * distance
    torch.testing.assert_close(method.step(context(network), batch).loss, expected)
    assert centroids.shape == (3, 100)


def test_kmeans_fixmatch_as_published_adds_up_to_the_notebook_s_epoch():
    """Two labelled and two unlabelled batches in turn, against the notebook's lines run over them."""
    network = model()
    full = make_batch(labelled=16, unlabelled=48)
    threshold = median_confidence(network, full)
    method = built(KMeansFixMatch("as_published", threshold=threshold, w_kmeans=100.0))
    method.begin_epoch(context(network, seed=5), whole(full))
    nothing = torch.zeros(0, dtype=torch.long)
    total = torch.zeros(())
    for part in full.split(2):
        empty_u = {name: view[:0] for name, view in part.unlabelled.items()}
        empty_l = {name: view[:0] for name, view in part.labelled.items()}
        total = total + method.step(context(network), replace(part, unlabelled=empty_u, unlabelled_index=nothing)).loss
        alone = replace(part, labelled=empty_l, labels=part.labels[:0], labelled_index=nothing)
        total = total + method.step(context(network), alone).loss
    total.backward()
    ours = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()

    # The notebook, line by line (M unlabelled images, batches of 24 here; gradients zeroed once).
    all_logits = torch.tensor([]).view(0, 100)
    for part in full.split(2):
        F.cross_entropy(network(part.labelled["flip"]), part.labels).backward()
    for part in full.split(2):
        all_logits = torch.cat((all_logits, network.activations(part.unlabelled["flip"]).embedding), 0)
        z_weak, z_strong = network(part.unlabelled["weak"]), network(part.unlabelled["strong"])
        pseudo_values, _ = torch.max(nn.Softmax(dim=1)(z_weak.detach()), dim=1)
        pseudo_labels = (pseudo_values >= threshold).float().to(torch.long)
        assert 0 < pseudo_labels.sum() < 24
        (F.cross_entropy(z_strong[pseudo_labels], pseudo_labels) * 0.25).backward()
    centroids = method.state_dict()["centroids"]
    labels = torch.cdist(all_logits.detach(), centroids).argmin(1)
    (100.0 * torch.mean((all_logits - centroids[labels]) ** 2)).backward()
    for a, p in zip(ours, network.parameters(), strict=True):
        torch.testing.assert_close(a, p.grad, rtol=1e-4, atol=1e-7)


def test_vat_leaves_batch_norm_s_running_statistics_to_the_labelled_images():
    network, batch = WideResNet(4, (16, 16), 3, depth=10, width=1), make_batch()
    labelled_only = WideResNet(4, (16, 16), 3, depth=10, width=1)
    labelled_only.load_state_dict(network.state_dict())
    VAT(warmup_epochs=0, use_entmin=True).step(context(network), batch)
    labelled_only(batch.labelled["weak"])
    for (name, ours), (_, expected) in zip(network.named_buffers(), labelled_only.named_buffers(), strict=True):
        torch.testing.assert_close(ours, expected, msg=name)


def test_vat_is_cross_entropy_plus_its_weighted_terms():
    network, batch = model(), make_batch()
    ctx = context(network, generator=torch.Generator().manual_seed(4))
    output = VAT(xi=0.1, eps=2.0, iterations=2, weight=0.5, use_entmin=True).step(ctx, batch)
    unlabelled = batch.unlabelled["weak"]
    adversarial = losses.virtual_adversarial(network, unlabelled, 0.1, 2.0, 2, torch.Generator().manual_seed(4))
    expected = F.cross_entropy(network(batch.labelled["weak"]), batch.labels)
    expected = expected + 0.5 * (adversarial + losses.mean_entropy(network(unlabelled)))
    torch.testing.assert_close(output.loss, expected)


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


@pytest.mark.parametrize("reconstruction", ["gamma", "lambda"])
def test_inversion_is_eq_6_and_eq_5(reconstruction):
    network, batch = model(), make_batch(labelled=8, unlabelled=24)
    x = torch.cat([batch.labelled["plain"], batch.unlabelled["plain"]]).requires_grad_()
    z1 = F.max_pool2d(F.relu(network.conv1(x)), 2)
    z2 = F.max_pool2d(F.relu(network.conv2(z1)), 2)
    z3 = F.relu(network.fc1(z2.flatten(1)))
    z4 = F.relu(network.fc2(z3))
    logits = network.fc3(z4)
    volumes = [x, z1, z2, z3, z4]
    rebuilt = torch.autograd.grad(0.5 * logits.square().sum(), volumes, create_graph=True)
    errors = [(z - r).flatten(1).square().mean(1) for z, r in zip(volumes, rebuilt, strict=True)]
    error = errors[0] if reconstruction == "gamma" else sum(errors) / 5
    q = logits.softmax(1)
    entropy = -(q * q.log()).sum(1)
    cross_entropy = -q[:8].log().gather(1, batch.labels[:, None])[:, 0]
    each = torch.cat([cross_entropy, entropy[8:]])
    shown = Inversion(reconstruction).step(context(network), batch).terms
    for number, layer in enumerate(errors):  # of Gamma too, whose inner layers are in figure 2
        torch.testing.assert_close(shown[f"reconstruction_{number}"], layer.mean().detach())
    eq6 = (each / torch.log(torch.tensor(4.0)) + error).mean()
    torch.testing.assert_close(Inversion(reconstruction).step(context(network), batch).loss, eq6)
    a, b = 0.7, 0.2
    eq5 = (torch.cat([a * cross_entropy, (1 - a) * b * entropy[8:]]) + (1 - a) * (1 - b) * error).mean()
    torch.testing.assert_close(Inversion(reconstruction, a=a, b=b).step(context(network), batch).loss, eq5)


def test_kmeans_with_fewer_images_than_clusters():
    network, batch = model(), make_batch(unlabelled=4)
    method = built(KMeansFixMatch(clusters=10))
    method.begin_epoch(context(network), whole(batch))
    assert len(method.centroids.unique(dim=0)) == 4  # each image its own
    assert method.step(context(network), batch).terms["kmeans"] < 1e-9


def test_the_weights_of_inversion_are_given_both_or_not_at_all():
    with pytest.raises(UserError, match="given both"):
        Inversion(a=0.7)
