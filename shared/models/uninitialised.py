"""Build models without drawing initial values, which takes longer than loading the weights that replace them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any, Self

import torch
from torch.overrides import TorchFunctionMode

_DRAWS = (torch.Tensor.normal_, torch.Tensor.uniform_)
_no_files: ContextVar[bool] = ContextVar("_no_files", default=False)


def without_files() -> bool:
    """Whether files of pretrained weights are left unread, as all weights are loaded afterwards."""
    return _no_files.get()


class UnsetValues(TorchFunctionMode):
    """Context in which modules leave their parameters uninitialised; all of them must be loaded afterwards.

    PyTorch's `skip_init` does this for a single module, not for networks that build other networks. Files of pretrained
    weights are read with `files` alone: a site, whose weights come from the server, need not have them.
    """

    def __init__(self, *, files: bool = False) -> None:
        super().__init__()
        self._files = files

    def __enter__(self) -> Self:
        """Begin; see `without_files`."""
        self._token = _no_files.set(not self._files)
        super().__enter__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return self

    def __exit__(self, *error: object) -> None:
        """End, whatever happened."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        _no_files.reset(self._token)

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
