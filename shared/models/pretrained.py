"""Pretrained networks of planes: torchvision's ImageNet weights from a file of the user; nothing is ever downloaded.

They are for the 2D branches of the subtype ensemble (Wang et al., Radiology: Imaging Cancer 2025;7(3)) and for
mammography (Luo et al., Front Oncol 2025;15:1638212). Names and shapes are checked, all of them, before anything is
written.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from shared.errors import ConfigError
from shared.models.torchvision_names import PUBLISHED, Published
from shared.models.uninitialised import without_files

_COUNTER = "num_batches_tracked"  # batch norm's, which older files lack; it is not used with a fixed momentum
_OWN = re.compile(r"(^|\.)attention\d*\.")  # what we put into a network, of which no file knows


def adapt_first_filters(weight: Tensor, channels_in: int) -> Tensor:
    """Adapt the first convolution of a pretrained network to another number of input channels.

    The filters are averaged over the colours (Luo et al., Front Oncol 2025;15:1638212, for one channel), repeated, and
    scaled by colours / channels, so that an input that is the same in all channels has the same response as before.
    From filters `(out, colours, y, x)` to `(out, channels_in, y, x)`; with as many channels as colours they are
    returned unchanged.
    """
    colours = weight.shape[1]
    if channels_in == colours:
        return weight
    mean = weight.mean(dim=1, keepdim=True) * (colours / channels_in)
    return mean.repeat(1, channels_in, *[1] * (weight.ndim - 2))


def load_pretrained(network: nn.Module, name: str, source: str) -> None:
    """Load pretrained weights into a network, in place; final layers and attention are not changed.

    Everything is checked before the first tensor is written, so a refused file leaves the network unchanged. No file is
    read where all weights are loaded afterwards (`uninitialised.without_files`).

    Parameters
    ----------
    network
        Of the published size with any number of input channels: `features` of a `PlaneNetwork`, or MONAI's
        `ResNet(spatial_dims=2)` with batch norm, shortcuts of type "B" and `conv1_t_stride=2`, the resolution at which
        the weights were trained. A bias of the shortcuts (`bias_downsample=True`), which torchvision does not have,
        becomes zero.
    name
        Of the weights, a key of `PUBLISHED`.
    source
        Path of a `.pth`, `.pt` or `.safetensors` file with torchvision's names, or `"hub"` for the only such file in
        the cache of torch hub. Torch files are read as tensors; no code in them is run.

    Raises
    ------
    ConfigError
        There are no such weights; the file is missing, ambiguous, unreadable or holds more than tensors; or its tensors
        do not fit the network.

    """
    if without_files():
        return
    if name not in PUBLISHED:
        raise ConfigError(f"there are no pretrained weights of '{name}': choose one of {', '.join(PUBLISHED)}")
    weights = PUBLISHED[name]
    file = _find(weights, source)
    read = {key: tensor for key, tensor in _read(file).items() if not key.startswith(weights.final)}
    given = {weights.own_name(key): tensor for key, tensor in read.items()}
    if len(given) < len(read):
        raise ConfigError(f"{file.name} does not fit: it has a tensor twice, under an old and a new name")
    own = {
        key: tensor
        for key, tensor in network.state_dict().items()
        if not key.startswith(weights.final) and not _OWN.search(key)
    }
    first = weights.first
    if first in given and first in own and given[first].ndim == own[first].ndim:
        given[first] = adapt_first_filters(given[first], own[first].shape[1])
    for key, tensor in own.items():
        if key.endswith((_COUNTER, "downsample.0.bias")):
            given.setdefault(key, torch.zeros_like(tensor))
    _check(own, given, file.name, weights.title)
    with torch.no_grad():
        for key, tensor in own.items():
            tensor.copy_(given[key])


def _find(weights: Published, source: str) -> Path:
    remedy = (
        f"take {weights.file} from https://download.pytorch.org/models/ (nothing is downloaded here), or set "
        f'pretrained = "none" for a random start'
    )
    if source != "hub":
        file = Path(source)
        if not file.is_file():
            raise ConfigError(f"there is no file of pretrained weights {file.name}: {remedy}")
        return file
    files = sorted((Path(torch.hub.get_dir()) / "checkpoints").glob(weights.pattern))
    if not files:
        raise ConfigError(f"torch hub's cache (its folder checkpoints) holds no {weights.pattern}: {remedy}")
    if len(files) > 1:
        # The choice changes the results of the run, so it is left to the user.
        names = ", ".join(file.name for file in files)
        raise ConfigError(
            f"torch hub's cache holds several {weights.pattern} ({names}): set pretrained to the path of one"
        )
    return files[0]


def _read(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a file by name, to the CPU."""
    if file.suffix == ".safetensors":
        try:
            loaded: object = load_file(file)
        except (SafetensorError, OSError) as error:
            raise ConfigError(f"{file.name} is damaged or no safetensors file: copy it again") from error
    elif file.suffix in {".pth", ".pt"}:
        try:
            loaded = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise ConfigError(
                f"{file.name} holds more than tensors, or is damaged, and is refused: such a file can run code when it "
                "is read; save the state dict alone, best as .safetensors"
            ) from error
        except (RuntimeError, EOFError, OSError, ValueError) as error:
            raise ConfigError(f"{file.name} is damaged or no torch file: copy it again") from error
    else:
        raise ConfigError(f"pretrained weights are read from .pth, .pt or .safetensors, not from {file.name}")
    if not isinstance(loaded, Mapping) or not all(isinstance(item, Tensor) for item in loaded.values()):
        raise ConfigError(
            f"{file.name} is no state dict (a flat table of names and tensors): save the state dict alone"
        )
    return dict(loaded)


def _check(own: Mapping[str, Tensor], given: Mapping[str, Tensor], file: str, title: str) -> None:
    """Raise unless both have the same names and shapes."""
    missing, extra = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    if missing or extra:
        parts = [
            f"{len(names)} tensors {where} only (as {names[0]})"
            for names, where in ((missing, "in the network"), (extra, "in the file"))
            if names
        ]
        raise ConfigError(
            f"{file} does not fit: {', '.join(parts)}; the file must be torchvision's {title} and the network that "
            f"one at its published size, with batch norm (ResNet: shortcuts of type B)"
        )
    for name, tensor in own.items():
        if tensor.shape != given[name].shape:
            raise ConfigError(
                f"{file} does not fit: {name} is {tuple(given[name].shape)} in the file and {tuple(tensor.shape)} in "
                f"the network; the file must be torchvision's {title}"
            )
