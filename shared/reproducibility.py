"""Seeds, threads and hashes: the same seed gives the same bytes on the CPU, in any order of the sites' answers."""

from __future__ import annotations

import hashlib
import random
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive_seed(*parts: int | str) -> int:
    """Combine integers and names to one 63-bit seed, the same on every platform and in every process."""
    words = [part if isinstance(part, int) else zlib.crc32(part.encode()) for part in parts]
    low, high = np.random.SeedSequence([abs(word) for word in words]).generate_state(2, np.uint32)
    return (int(high) << 31) ^ int(low)


def make_deterministic(seed: int, threads: int) -> None:
    """Seed Python, NumPy and torch, set the number of threads and prefer deterministic kernels."""
    import torch  # imported here because it takes seconds, which `--help` must not

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries still draw from the global generator
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=True, warn_only=True)


def state_hash(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of names, shapes, dtypes and bytes of a state dict in the order of names: the identity of a model."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}|".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
