"""Names and shapes of torchvision's networks (torchvision/models/*.py), written down from the papers' layer tables.

Torchvision itself is not among our packages. Its own counts of parameters, which its documentation gives for each file
of weights, check these tables.
"""

import torch

RESNETS = {
    18: ((2, 2, 2, 2), (3, 3), 1),
    34: ((3, 4, 6, 3), (3, 3), 1),
    50: ((3, 4, 6, 3), (1, 3, 1), 4),
    101: ((3, 4, 23, 3), (1, 3, 1), 4),
}
"""He 2016, table 1: blocks a stage, kernels of a block, how often the last convolution widens."""
MOBILENET = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Sandler 2018, table 2: expansion, channels, blocks, stride."""
COUNTS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "densenet121": 7_978_856,
    "mobilenet-v2": 3_504_872,
    "vit-b16": 86_567_656,
}
"""`num_params` of torchvision's weights."""


def batch_norm(name, maps):
    entries = {f"{name}.{part}": (maps,) for part in ("weight", "bias", "running_mean", "running_var")}
    return entries | {f"{name}.num_batches_tracked": ()}


def resnet(stem=64, blocks=None, kernels=(1, 3, 1), expansion=4, *, depth=None):
    if depth:
        blocks, kernels, expansion = RESNETS[depth]
    table = {"conv1.weight": (stem, 3, 7, 7)} | batch_norm("bn1", stem)

    def conv_bn(conv, bn, before, after, kernel):
        table[f"{conv}.weight"] = (after, before, kernel, kernel)
        table.update(batch_norm(bn, after))

    before = stem
    for stage, count in enumerate(blocks):
        planes = stem * 2**stage
        for block in range(count):
            at, width = f"layer{stage + 1}.{block}", before
            for index, kernel in enumerate(kernels, 1):
                after = planes * expansion if index == len(kernels) else planes
                conv_bn(f"{at}.conv{index}", f"{at}.bn{index}", width, after, kernel)
                width = after
            if block == 0 and (stage > 0 or before != width):
                conv_bn(f"{at}.downsample.0", f"{at}.downsample.1", before, width, 1)
            before = width
    return table | {"fc.weight": (1000, before), "fc.bias": (1000,)}


def densenet(first=64, growth=32, blocks=(6, 12, 24, 16), *, old=False):
    """Huang 2017, table 1; `old` names as files of before 2019 have them, without counters of batches."""
    dot = "." if old else ""
    table = {"features.conv0.weight": (first, 3, 7, 7)} | batch_norm("features.norm0", first)
    maps = first
    for block, layers in enumerate(blocks, 1):
        for layer in range(1, layers + 1):
            at = f"features.denseblock{block}.denselayer{layer}"
            table |= batch_norm(f"{at}.norm{dot}1", maps)
            table[f"{at}.conv{dot}1.weight"] = (4 * growth, maps, 1, 1)
            table |= batch_norm(f"{at}.norm{dot}2", 4 * growth)
            table[f"{at}.conv{dot}2.weight"] = (growth, 4 * growth, 3, 3)
            maps += growth
        if block < len(blocks):
            at = f"features.transition{block}"
            table |= batch_norm(f"{at}.norm", maps) | {f"{at}.conv.weight": (maps // 2, maps, 1, 1)}
            maps //= 2
    table |= batch_norm("features.norm5", maps)
    table |= {"classifier.weight": (1000, maps), "classifier.bias": (1000,)}
    return {name: shape for name, shape in table.items() if not (old and name.endswith("tracked"))}


def mobilenet():
    table = {"features.0.0.weight": (32, 3, 3, 3)} | batch_norm("features.0.1", 32)
    maps, place = 32, 0
    for expansion, after, blocks, _ in MOBILENET:
        for _ in range(blocks):
            place += 1
            at, wide, number = f"features.{place}.conv", maps * expansion, 0
            if expansion > 1:
                table |= {f"{at}.0.0.weight": (wide, maps, 1, 1)} | batch_norm(f"{at}.0.1", wide)
                number = 1
            table |= {f"{at}.{number}.0.weight": (wide, 1, 3, 3)} | batch_norm(f"{at}.{number}.1", wide)
            table |= {f"{at}.{number + 1}.weight": (after, wide, 1, 1)} | batch_norm(f"{at}.{number + 2}", after)
            maps = after
    table |= {"features.18.0.weight": (1280, maps, 1, 1)} | batch_norm("features.18.1", 1280)
    return table | {"classifier.1.weight": (1000, 1280), "classifier.1.bias": (1000,)}


def vit(dim=768, layers=12, side=224, *, old=False):
    """Dosovitskiy 2021, table 1; `old` names of the MLP as the files have them."""
    first, second = ("linear_1", "linear_2") if old else ("0", "3")
    table = {"class_token": (1, 1, dim), "conv_proj.weight": (dim, 3, 16, 16), "conv_proj.bias": (dim,)}
    table["encoder.pos_embedding"] = (1, (side // 16) ** 2 + 1, dim)
    for layer in range(layers):
        at = f"encoder.layers.encoder_layer_{layer}"
        for norm in ("ln_1", "ln_2"):
            table |= {f"{at}.{norm}.weight": (dim,), f"{at}.{norm}.bias": (dim,)}
        table |= {
            f"{at}.self_attention.in_proj_weight": (3 * dim, dim),
            f"{at}.self_attention.in_proj_bias": (3 * dim,),
        }
        table |= {
            f"{at}.self_attention.out_proj.weight": (dim, dim),
            f"{at}.self_attention.out_proj.bias": (dim,),
            f"{at}.mlp.{first}.weight": (4 * dim, dim),
            f"{at}.mlp.{first}.bias": (4 * dim,),
            f"{at}.mlp.{second}.weight": (dim, 4 * dim),
            f"{at}.mlp.{second}.bias": (dim,),
        }
    table |= {"encoder.ln.weight": (dim,), "encoder.ln.bias": (dim,)}
    return table | {"heads.head.weight": (1000, dim), "heads.head.bias": (1000,)}


PUBLISHED_TABLES = {f"resnet{depth}": lambda depth=depth: resnet(depth=depth) for depth in RESNETS} | {
    "densenet121": densenet,
    "mobilenet-v2": mobilenet,
    "vit-b16": vit,
}
"""A table of full size, by the name of the weights."""


def drawn(table, seed=0, *, counters=True):
    """A state dict of the table's names, no two tensors alike; values keep a deep network's activations in range."""
    draw = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in table.items():
        if name.endswith("num_batches_tracked"):
            state |= {name: torch.tensor(len(state))} if counters else {}
        elif name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
            state[name] = 0.5 + torch.rand(shape, generator=draw)
        else:
            scale = 0.2 if len(shape) < 2 else (2 / torch.Size(shape[1:]).numel()) ** 0.5
            state[name] = scale * torch.randn(shape, generator=draw)
    return state
