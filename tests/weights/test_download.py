"""timm's own weights, with the download replaced."""

import huggingface_hub
import pytest
import torch

from fewlabels.config.compose import HydraConfig
from fewlabels.models.timm_import import timm
from fewlabels.models.timm_model import TimmModel
from fewlabels.runs import checkpoint
from fewlabels.runs.trained import load_run
from fewlabels.train import RunParts, run
from fewlabels.types import UserError
from fewlabels.weights.download import digest
from fewlabels.weights.wanted import with_wanted_input

SIZES = dict(img_size=8, patch_size=4, embed_dim=12, depth=1, num_heads=3)
VIT = ["model=timm", "model.timm_name=vit_tiny_patch16_224", "model.pretrained=true",
       f"model.options={SIZES}".replace("'", "")]  # fmt: skip
SHORT = ["epochs=1", "batch.steps=2", "batch.size=16", "scale.max_test_images=20", "optim.lr=1e-7"]


@pytest.fixture
def downloaded(monkeypatch):
    """Weights of the small ViT for 1,000 classes and colour images, in the place of the hub's."""
    state = timm.create_model("vit_tiny_patch16_224", **SIZES).state_dict()
    generator = torch.Generator().manual_seed(5)
    state = {name: torch.rand(value.shape, generator=generator) for name, value in state.items()}
    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", lambda *_, **__: dict(state))
    return state


@pytest.fixture
def given(monkeypatch):
    """The keys that a command gives."""

    def give(*overrides):
        monkeypatch.setattr("fewlabels.weights.wanted.given_keys", lambda: {each.partition("=")[0] for each in overrides})
        return overrides

    return give


def test_a_run_starts_from_timm_s_weights_and_is_used_without_them(
    configure, tmp_path, downloaded, monkeypatch, capsys, given
):
    given()
    result = run(configure(*SHORT, *VIT))
    (folder,) = (tmp_path / "out" / "runs").glob(f"*{result.fingerprint[:8]}")
    after = checkpoint.read(folder / "checkpoint.pt")["model"]
    torch.testing.assert_close(after["net.pos_embed"], downloaded["pos_embed"], rtol=0, atol=1e-5)
    kernel = downloaded["patch_embed.proj.weight"].sum(dim=1, keepdim=True)  # grey images, three channels there
    torch.testing.assert_close(after["net.patch_embed.proj.weight"], kernel, rtol=0, atol=1e-5)
    assert result.weights["source"] == "timm's vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    assert result.weights["left_out"] == ["net.head.weight", "net.head.bias"]
    assert "its last layer is left out" in result.decisions["model.weights"]
    said = "as these weights want them, dataset.mean=[0.5] dataset.std=[0.5] views.size=8"
    assert said in result.decisions["model.pretrained"]
    assert said in capsys.readouterr().err
    assert result.config["dataset"]["mean"] == [0.5]
    unlike = {name: value * 2 for name, value in downloaded.items()}
    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", lambda *_, **__: dict(unlike))
    assert RunParts(with_wanted_input(configure(*SHORT, *VIT))).info.fingerprint != result.fingerprint
    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", fails)
    assert run(configure(*SHORT, *VIT)).curve == result.curve  # finished, and read back without them
    trained = load_run(folder)
    assert trained.description["model"]["options"] == SIZES
    assert "pretrained" not in trained.description["model"]
    assert trained.preprocess.views.mean == (0.5,)


def fails(*_, **__):
    raise AssertionError("nothing is to be downloaded")


def test_offline_one_line_says_what_to_do(configure, tmp_path, monkeypatch, given):
    given()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(UserError) as caught:
        run(configure(*SHORT, *VIT))
    (line,) = str(caught.value).splitlines()
    assert line.startswith("model.pretrained=true: the weights vit_tiny_patch16_224.augreg_in21k_ft_in1k are neither in")
    assert line.endswith("or set HF_HOME to a cache that holds them; model.weights=FILE takes a file in its place")
    assert not (tmp_path / "out").exists()


def test_networks_without_pretrained_weights(configure, downloaded):
    with pytest.raises(UserError, match="model.pretrained=true is for networks of timm, and SimpleCNN is none"):
        run(configure("model.pretrained=true"))
    with pytest.raises(UserError, match="timm has no weights for resnetblur18"):
        run(configure("model=timm", "model.timm_name=resnetblur18", "model.pretrained=true"))
    with pytest.raises(UserError, match="did you mean resnet18"):
        run(configure("model=timm", "model.timm_name=resnet118", "model.pretrained=true"))
    with pytest.raises(UserError, match="model.weights and model.pretrained both say"):
        run(configure(*VIT, "model.weights=x.pt"))
    with pytest.raises(UserError, match="augreg_in21k_ft_in1k do not fit model.options"):
        run(configure(*VIT, "model.options.depth=2"))


def wanted(configure, *overrides):
    cfg = with_wanted_input(
        configure("model=timm", "model.timm_name=vit_tiny_patch16_224", "model.pretrained=true", *overrides)
    )
    sizes = (cfg.dataset.image_size, cfg.views.size, cfg.views.crop)
    return list(cfg.dataset.mean), list(cfg.dataset.std), sizes, cfg.decisions.get("model.pretrained", "")


def test_the_input_that_weights_want_unless_the_command_says_otherwise(configure, given):
    """Of vit_tiny_patch16_224: 0.5 and 0.5, 224 of 248 pixels (224 / 0.9)."""
    given()
    half = [0.5, 0.5, 0.5]
    assert wanted(configure, "dataset=cifar10_250")[:3] == (half, half, (None, 248, 224))
    *_, sizes, said = wanted(configure, "dataset=folder", "dataset.num_labels=10")
    assert sizes == (248, None, 224)
    assert said.endswith("as these weights want them, dataset.image_size=248 views.crop=224")  # mean and std are theirs
    own = given("dataset=cifar10_250", "dataset.mean=[0.1, 0.2, 0.3]", "views.size=64")
    mean, std, sizes, said = wanted(configure, *own)
    assert (mean, std, sizes) == ([0.1, 0.2, 0.3], half, (None, 64, None))
    assert (
        "as these weights want them, dataset.std=[0.5, 0.5, 0.5]; unlike what they want, dataset.mean=[0.1, 0.2, 0.3] ("
        in said
    )
    assert said.endswith("views.size=64 (224)")
    agreed = given("dataset.mean=[0.5, 0.5, 0.5]", "dataset.std=[0.5, 0.5, 0.5]", "views.size=224")
    assert wanted(configure, "dataset=cifar10_250", *agreed)[3] == ""
    plain = configure("dataset=cifar10_250")
    assert with_wanted_input(plain) is plain


def test_the_command_s_own_keys(configure, monkeypatch):
    from fewlabels.config.given import given_keys

    assert given_keys() == frozenset() or HydraConfig.initialized()
    monkeypatch.setattr(HydraConfig.instance(), "cfg", configure("dataset.mean=[0.5]", "seed=1", hydra=True))
    assert {"dataset.mean", "seed"} <= given_keys()
    assert "dataset.std" not in given_keys()


def test_the_digest_is_of_names_shapes_and_values():
    one = {"a": torch.arange(4.0), "b": torch.ones((), dtype=torch.int64)}
    assert digest(one) == digest(dict(reversed(one.items())))
    others = [
        {"a": torch.arange(4.0).reshape(2, 2)},
        {"a": torch.arange(4.0) + 1},
        {"b": torch.zeros((), dtype=torch.int64)},
    ]
    assert len({digest(one), *(digest(one | other) for other in others)}) == 4


def test_torch_s_generators_stay(configure, downloaded):
    from fewlabels.weights.download import fetch

    model = TimmModel(10, (8, 8), 1, "vit_tiny_patch16_224", SIZES)
    model.image_shape = (1, 8, 8)
    before = torch.get_rng_state()
    fetch(
        {"_target_": "fewlabels.models.timm_model.TimmModel", "timm_name": "vit_tiny_patch16_224", "options": SIZES}, model
    )
    assert torch.equal(before, torch.get_rng_state())
