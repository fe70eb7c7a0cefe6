"""Models built without first values: drawing them takes longer than the weights that replace them take to load."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_DRAWS = (torch.Tensor.normal_, torch.Tensor.uniform_)


class UnsetValues(TorchFunctionMode):
    """Within it, modules leave their parameters as memory has them: every one must be loaded afterwards.

    PyTorch's own `skip_init` does this to one module; what builds a network inside another does not pass it on.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Pass over what fills a tensor with first values; it is returned as it is."""
        del types
        given = kwargs or {}
        if func in _DRAWS or getattr(func, "__module__", "") == "torch.nn.init":
            return given["tensor"] if "tensor" in given else args[0]
        return func(*args, **given)
