"""torch's global randomness (dropout, augmentation inside a loss): borrowed, seeded, kept, and put back."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def own_randomness(device: torch.device) -> Iterator[None]:
    """What is drawn or seeded in the block, on the CPU and on this device, leaves no trace outside."""
    with torch.random.fork_rng([device.index] if device.type == "cuda" else []):
        yield


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """In the block the CPU's draws begin with this seed; outside they go on as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def seed_randomness(device: torch.device, seed: int) -> None:
    """Begin to draw, on the CPU and on this device; `torch.manual_seed` would seed all others too."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def randomness(device: torch.device) -> dict[str, Tensor]:
    """The state that `set_randomness` takes."""
    state = {"cpu": torch.get_rng_state()}
    return {**state, "cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def set_randomness(device: torch.device, state: Mapping[str, Tensor]) -> None:
    """Go on drawing from where `randomness` was asked; on a device of another kind, as far as there is a state."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
