"""Build models without drawing initial values, which takes longer than loading the weights that replace them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_DRAWS = (torch.Tensor.normal_, torch.Tensor.uniform_)


class UnsetValues(TorchFunctionMode):
    """Context in which modules leave their parameters uninitialised; all of them must be loaded afterwards.

    PyTorch's `skip_init` does this for a single module, not for networks that build other networks.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Skip functions that fill a tensor with initial values, and return the tensor unchanged."""
        del types
        given = kwargs or {}
        if func in _DRAWS or getattr(func, "__module__", "") == "torch.nn.init":
            return given["tensor"] if "tensor" in given else args[0]
        return func(*args, **given)
