"""Several devices that share one model: FSDP as this trainer needs it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.strategies import FSDPStrategy, Strategy
from torch import nn
from torch.distributed.fsdp import (
    FullOptimStateDictConfig,
    FullStateDictConfig,
    OptimStateKeyType,
    StateDictType,
)
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from torch.optim import Adafactor, Optimizer

from beyond_ce.errors import UsageError


class Sharded(FSDPStrategy):
    """FSDP whose checkpoints are those of a single device, so that a run may change between them;
    on CPUs too.

    Lightning Fabric's own names the optimizer's states by parameters in alphabetical order, where
    other strategies number them in the order of the optimizer's groups. On a CPU, it would have
    torch free the weights that it is about to save.
    """

    def setup_module(self, module: nn.Module) -> nn.Module:
        if self.root_device.type == "cpu":
            # Fabric names a device by its index, which a CPU has not; it leaves what is wrapped.
            module = FSDP(
                module,
                sharding_strategy=self.sharding_strategy,
                mixed_precision=self.mixed_precision_config,
                device_id=self.root_device,
                **self._fsdp_kwargs,
            )
        return super().setup_module(module)

    def setup_module_and_optimizers(
        self, module: nn.Module, optimizers: list[Optimizer], scheduler: Any = None
    ) -> tuple[nn.Module, list[Optimizer], Any]:
        for optimizer in optimizers:
            check_shardable(optimizer)
        return super().setup_module_and_optimizers(module, optimizers, scheduler)

    def save_checkpoint(
        self,
        path: str | Path,
        state: dict[str, Any],
        storage_options: Any = None,
        filter: Any = None,
    ) -> None:
        """Rank 0 writes the whole `state` to one file."""
        module = _module_of(state)
        with self._whole(module, rank0_only=True):
            full = {name: _state_of(module, value) for name, value in state.items()}
        if self.is_global_zero:
            for name, value in state.items():
                if isinstance(value, Optimizer):
                    full[name] = FSDP.rekey_optim_state_dict(
                        full[name], OptimStateKeyType.PARAM_ID, module, optim=value
                    )
            torch.save(full, path)

    def load_checkpoint(
        self, path: str | Path, state: Any = None, strict: bool = True, weights_only: Any = None
    ) -> dict[str, Any]:
        """Every rank reads its part of `state`; returns what is not in it."""
        checkpoint = torch.load(path, map_location="cpu", mmap=True, weights_only=weights_only)
        module = _module_of(state)
        with self._whole(module, rank0_only=False):
            for name, value in state.items():
                saved = checkpoint.pop(name)
                if isinstance(value, Optimizer):
                    named = FSDP.rekey_optim_state_dict(
                        saved, OptimStateKeyType.PARAM_NAME, module, optim=value
                    )
                    saved = FSDP.optim_state_dict_to_load(module, value, named)
                value.load_state_dict(saved)
        return checkpoint

    def _whole(self, module: nn.Module, rank0_only: bool) -> AbstractContextManager[Any]:
        to_cpu = rank0_only and self.root_device.type != "cpu"
        return FSDP.state_dict_type(
            module,
            StateDictType.FULL_STATE_DICT,
            FullStateDictConfig(offload_to_cpu=to_cpu, rank0_only=rank0_only),
            FullOptimStateDictConfig(offload_to_cpu=to_cpu, rank0_only=rank0_only),
        )


def _module_of(state: dict[str, Any]) -> nn.Module:
    (module,) = (value for value in state.values() if isinstance(value, nn.Module))
    return module


def _state_of(module: nn.Module, value: Any) -> Any:
    if isinstance(value, Optimizer):
        return FSDP.optim_state_dict(module, value)
    return value.state_dict() if hasattr(value, "state_dict") else value


def strategy(name: str) -> str | Strategy:
    """Fabric's strategy of this name."""
    return Sharded() if name == "fsdp" else name


def check_shardable(optimizer: Optimizer) -> None:
    """Refuse an optimizer that needs whole matrices: FSDP shows it flat pieces of them.

    Raises:
        UsageError: it is Adafactor, whose steps depend on rows, columns and the size of a matrix.
    """
    if isinstance(optimizer, Adafactor):
        raise UsageError(
            "Adafactor needs whole matrices, of which FSDP gives each device a piece: set "
            "trainer.strategy=ddp, or choose optimizer=adamw"
        )
