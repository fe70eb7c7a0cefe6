"""Models without initial values: nothing is drawn, and a loaded state is all that counts."""

import pytest
import torch
from torch import nn

from shared.errors import ConfigError
from shared.models.pretrained import load_pretrained
from shared.models.uninitialised import UnsetValues


def build():
    return nn.Sequential(nn.Conv3d(2, 3, 3), nn.BatchNorm3d(3), nn.Linear(3, 2))


def test_nothing_is_drawn_inside_and_again_outside():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with UnsetValues():
        build()
    assert torch.equal(torch.get_rng_state(), before)
    build()
    assert not torch.equal(torch.get_rng_state(), before)


def test_a_loaded_model_is_the_one_that_was_saved():
    torch.manual_seed(1)
    saved = build().eval()
    with UnsetValues():
        loaded = build()
    loaded.load_state_dict(saved.state_dict())
    for (name, value), (_, expected) in zip(loaded.state_dict().items(), saved.state_dict().items(), strict=True):
        assert torch.equal(value, expected), name


def test_files_of_pretrained_weights_are_read_only_where_they_are_wanted(tmp_path):
    missing = str(tmp_path / "no-such-file.pth")
    with UnsetValues():
        load_pretrained(build(), "resnet18", missing)  # a site has no such file: its weights come from the server
    with UnsetValues(files=True), pytest.raises(ConfigError, match="no file of pretrained weights"):
        load_pretrained(build(), "resnet18", missing)
    with pytest.raises(ConfigError, match="no file of pretrained weights"):
        load_pretrained(build(), "resnet18", missing)


def test_an_initialiser_returns_the_tensor_it_was_given():
    given = torch.full((3,), 7.0)
    with UnsetValues():
        assert nn.init.uniform_(given) is given
        assert nn.init.normal_(tensor=given) is given
    assert given.tolist() == [7.0, 7.0, 7.0]
