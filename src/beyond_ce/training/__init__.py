"""The training loop, its optimizers and schedules, and exact resumption."""

from beyond_ce.errors import Stopped
from beyond_ce.training.checkpoint import load_checkpoint, save_checkpoint
from beyond_ce.training.further_heads import FurtherHeads
from beyond_ce.training.optim import Constant, Plateau, WarmupCosine, adafactor, adamw
from beyond_ce.training.trainer import Trainer, TrainingResult

__all__ = [
    "Constant",
    "FurtherHeads",
    "Plateau",
    "Stopped",
    "Trainer",
    "TrainingResult",
    "WarmupCosine",
    "adafactor",
    "adamw",
    "load_checkpoint",
    "save_checkpoint",
]
