"""Weight files: read as plain float32 tensors, and fitted into a module exactly or not at all."""

from __future__ import annotations

import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

_WRAPPERS = ("state_dict", "model")  # under which training scripts keep their weights
_PREFIX = "module."  # of data-parallel training
_OPENAI_FACTS = {"input_resolution", "context_length", "vocab_size"}  # scalars of OpenAI's archives
_SHOWN = 3
# what torch's reader raises on a damaged file, depending on where the damage is
_BROKEN = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


class CheckpointError(ValueError):
    """A model cannot be loaded; the message is one line that names it."""


def read_weights(path: Path, *, torchscript: bool = False) -> dict[str, Tensor]:
    """Read a state dict, bare or under `state_dict` / `model`; nothing but tensors is unpickled.

    Args:
        path: a `.safetensors` file, or what `torch.save` wrote.
        torchscript: also take a TorchScript archive, as OpenAI publishes them. Opening one can run the code
            in it, inside TorchScript's own interpreter.

    Returns:
        Names without a `module.` prefix or OpenAI's scalars; float32, on the CPU.

    Raises:
        CheckpointError: no such file, or no state dict in it.
    """
    state = _read(path, torchscript=torchscript)
    for name in _WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds no state dict")
    return plain_weights(state)


def plain_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop `module.` prefixes and OpenAI's scalars, and widen to float32."""
    named = ((str(name).removeprefix(_PREFIX), tensor) for name, tensor in state_dict.items())
    return {name: tensor.float() for name, tensor in named if name not in _OPENAI_FACTS}


def _read(path: Path, *, torchscript: bool) -> object:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if _is_torchscript(path):
            return _read_torchscript(path, allowed=torchscript)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about the pickle protocol of a broken file
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as exc:
        raise CheckpointError(f"{path}: {exc.strerror or exc}") from exc
    except SafetensorError as exc:
        raise CheckpointError(f"{path}: {exc}") from exc
    except _BROKEN as exc:
        if isinstance(exc, CheckpointError):
            raise
        # torch's own words would advise to load it unsafely
        raise CheckpointError(f"{path} is no file of plain tensors") from exc


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read_torchscript(path: Path, *, allowed: bool) -> Mapping[str, Tensor]:
    if not allowed:
        raise CheckpointError(f"{path} is a TorchScript archive, not a state dict")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that TorchScript is deprecated
        state: Mapping[str, Tensor] = torch.jit.load(path, map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
    return state


def load_exactly(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Copy weights into a module, every name and every shape in agreement.

    Args:
        source: what the weights are, for the message.

    Raises:
        CheckpointError: names or shapes differ.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in weights]
    unknown = [name for name in weights if name not in own]
    other = [
        f"{name} {list(weights[name].shape)} instead of {list(tensor.shape)}"
        for name, tensor in own.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    faults = [
        f"{title} {_some(names)}"
        for title, names in (("missing", missing), ("unexpected", unknown), ("of another shape", other))
        if names
    ]
    if faults:
        raise CheckpointError(f"{source}: {'; '.join(faults)}")
    module.load_state_dict(weights)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
