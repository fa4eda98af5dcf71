"""ViTs as USB trains them."""

import pytest
import torch

from fewlabels.config.validate import resolved
from fewlabels.models.timm_import import timm
from fewlabels.predict import predictions
from fewlabels.runs.trained import load_run
from fewlabels.train import run
from tests.conftest import png, random_images

SMALL = ["model=vit_tiny", "model.options.img_size=8", "model.options.embed_dim=12", "model.options.depth=2"]
WIDTH = {"vit_tiny": (192, 3, 0.1), "vit_small": (384, 6, 0.2)}


@pytest.mark.parametrize("name", WIDTH)
def test_a_preset_has_the_sizes_of_usb_s(configure, name):
    """vit_tiny_patch2_32: 192 wide, 12 deep, 3 heads, drop path 0.1; vit_small_patch2_32: 384, 12, 6, 0.2.

    A block has 12 width ** 2 weights, and 13 width of biases and norms (3 + 1 + 4 + 1 biases, 2 + 2 norms); around them are
    16 x 16 places and the class token, the kernel, a norm and the last layer.
    """
    width, heads, drop_path = WIDTH[name]
    node = resolved(configure(f"model={name}"))["model"]
    network = timm.create_model(node["timm_name"], num_classes=10, **node["options"])
    blocks = 12 * (12 * width**2 + 13 * width)
    around = (16 * 16 + 1) * width + width + (2 * 2 * 3 + 1) * width + 2 * width + 10 * (width + 1)
    assert sum(weight.numel() for weight in network.parameters()) == blocks + around
    assert network.blocks[0].attn.num_heads == heads
    assert network.blocks[-1].drop_path2.drop_prob == pytest.approx(drop_path)
    assert type(network.blocks[0].drop_path1) is torch.nn.Identity  # it rises from 0 in the first block


@pytest.mark.parametrize("method", ["fixmatch", "remixmatch"])
def test_a_method_with_several_views_trains_it_and_its_run_is_used_offline(configure, tmp_path, method):
    """From a file of weights, which is gone afterwards, with the rates and the decay of fine-tuning."""
    from fewlabels.training.build import build_model, open_images

    cfg = configure(*SMALL)
    state = build_model(cfg, open_images(cfg)).net.state_dict()
    source = tmp_path / "usb.pt"
    torch.save({"model": {f"module.{name}": value for name, value in state.items()}, "it": 3}, source)
    result = run(configure(*SMALL, f"model.weights={source}", f"method={method}", "epochs=1", "batch.steps=1",
                           "batch.size=16", "scale.max_test_images=20", "optim.name=adamw", "optim.layer_decay=0.5",
                           "optim.decay_embeddings=false", "optim.weight_decay=0.1", "optim.ema_decay=0.5"))  # fmt: skip
    source.unlink()
    (folder,) = (tmp_path / "out" / "runs").glob(f"*{result.fingerprint[:8]}")
    trained = load_run(folder)
    assert trained.description["model"]["options"] == {
        "img_size": 8, "patch_size": 2, "drop_path_rate": 0.1, "embed_dim": 12, "depth": 2,
    }  # fmt: skip
    assert str(tmp_path) not in (folder / "model.json").read_text()
    (tmp_path / "new.png").write_bytes(png(random_images(1, 1, size=8, channels=1).images[0]))
    (found,) = predictions(trained, [tmp_path / "new.png"], top=10)
    assert sum(found.confidences) == pytest.approx(1)
    assert not torch.equal(trained.network.state_dict()["net.pos_embed"], state["pos_embed"])
