"""On a GPU: losses, steps, decoding and whole runs do there what they do on a CPU."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from choices import choices, on_tokens, token_losses
from small_decoders import byte_decoder
from torch import nn

from beyond_ce.batches.batch import Batch
from beyond_ce.configuration import build, compose
from beyond_ce.evaluation.self_speculation import differences
from beyond_ce.generation import generate
from beyond_ce.losses import Loss
from beyond_ce.losses.softmax_kernels import has_kernels, logsumexp, scaled_softmax
from beyond_ce.models import Decoder
from beyond_ce.reproduction.measurements.random_models import (
    decoder_flops,
    decoders_sharing_parameters,
    digit_values,
    random_decoder,
    random_labels,
)
from beyond_ce.runs.experiment import run
from beyond_ce.training.objective import Objective

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

VOCABULARY = 512


def make_loss(name: str) -> Loss:
    config = compose(["experiment=ntl/arithmetic/smoke", f"loss={name}"])
    loss: Loss = build(config.loss, "loss", number_values=digit_values(VOCABULARY))
    return loss


def make_decoder(*overrides: str) -> Decoder:
    torch.manual_seed(0)
    config = compose(["experiment=mtp/code/smoke", "model=decoder_3m", *overrides])
    return random_decoder(config, VOCABULARY)


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", token_losses())
def test_losses_and_their_gradients(name: str) -> None:
    torch.manual_seed(0)
    hidden, unembedding = torch.randn(8, 32, 64), torch.randn(VOCABULARY, 64) / 8
    labels = random_labels((8, 32), VOCABULARY)
    loss, found = make_loss(name), {}
    for device in ("cpu", "cuda"):
        inputs = [t.to(device).requires_grad_() for t in (hidden, unembedding)]
        total = loss.to(device).from_hidden(*inputs, labels.to(device)).total
        direct = loss(inputs[0] @ inputs[1].T, labels.to(device)).total
        torch.testing.assert_close(total, direct, rtol=1e-5, atol=1e-6)
        found[device] = [t.cpu() for t in (total, *torch.autograd.grad(total, inputs))]
    torch.testing.assert_close(found["cuda"], found["cpu"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows, width", [(5, 9000), (3, 4096), (2, 17), (0, 20)])
def test_passes_over_logits(rows: int, width: int, dtype: torch.dtype) -> None:
    """Impossible tokens, a block full of them, and a row with nothing to predict, which is NaN."""
    torch.manual_seed(0)
    logits = (3 * torch.randn(rows, width, device="cuda")).to(dtype)
    logits[:, width // 3] = -torch.inf
    logits[:, : max(0, width - 4800)] = -torch.inf
    columns = torch.tensor([5, 5, 7, 9, 11], device="cuda").repeat(rows, 1)
    columns[::2, 0] = 6  # the label is sometimes a number token
    scale, added = torch.rand(rows, 1, device="cuda"), torch.randn(rows, 5, device="cuda")
    if rows > 1:
        logits[1], scale[1], added[1] = torch.nan, 0, 0
    assert has_kernels(logits) and not has_kernels(logits.double())
    normaliser = logsumexp(logits)
    expected = logits.float().logsumexp(1, keepdim=True)
    torch.testing.assert_close(normaliser, expected, equal_nan=True)
    p = (logits.float().softmax(-1) * scale).masked_fill(scale == 0, 0)
    expected = p.scatter_add(1, columns, added).to(dtype)
    given = (logits, normaliser, scale, columns, added)
    torch.testing.assert_close(scaled_softmax(*given), expected)
    torch.testing.assert_close(scaled_softmax(*given, out=logits), expected)


@pytest.mark.parametrize("name", token_losses())
def test_losses_in_half_precision(name: str) -> None:
    """As far from the truth as its logits are, and no further."""
    torch.manual_seed(0)
    logits, labels = torch.randn(8, 32, VOCABULARY).bfloat16(), random_labels((8, 32), VOCABULARY)
    loss = make_loss(name)
    half, double = logits.cuda().requires_grad_(), logits.double().requires_grad_()
    found, expected = (
        loss.cuda()(half, labels.cuda()).total,
        loss.double().cpu()(double, labels).total,
    )
    torch.testing.assert_close(found.double().cpu(), expected, rtol=1e-5, atol=1e-6)
    (found,), (expected,) = torch.autograd.grad(found, half), torch.autograd.grad(expected, double)
    torch.testing.assert_close(found.double().cpu(), expected, rtol=5e-3, atol=1e-7)


@pytest.mark.parametrize("head", on_tokens("head"))
def test_steps_head_by_head(head: str) -> None:
    model = make_decoder(f"head={head}")
    tokens = torch.randint(2, VOCABULARY, (4, 65))
    batch = Batch(tokens[:, :-1], torch.ones(4, 64, dtype=torch.bool), labels=tokens[:, 1:])
    found = {}
    for device in ("cpu", "cuda"):
        copied = copy.deepcopy(model).to(device)
        copied.rotary.reset(torch.device(device))
        total, _ = Objective(copied, make_loss("ntl_was").to(device))(batch.to(device))
        total.backward()
        found[device] = {"total": total.detach().cpu(), **gradients(copied)}
    torch.testing.assert_close(found["cuda"], found["cpu"], rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("block", choices("head/block"))
def test_speculation_is_greedy_but_for_near_ties(block: str, dtype: torch.dtype) -> None:
    model = make_decoder(f"head/block={block}").to("cuda", dtype).eval()
    prompts = torch.randint(2, VOCABULARY, (4, 9)).tolist()
    expected = generate(model, prompts, 24).tokens
    found = generate(model, prompts, 24, heads=model.head.n).tokens
    _, unexplained = differences(model, prompts, expected, found)
    assert unexplained == 0


def test_greedy_text_is_that_of_a_cpu() -> None:
    model = byte_decoder(4).eval()
    prompts = [[40, 50, 60], [70, 80]]
    expected = generate(model, prompts, 16).tokens
    assert generate(copy.deepcopy(model).cuda(), prompts, 16).tokens == expected


def test_models_that_share_parameters_train() -> None:
    config = compose(["experiment=mtp/scaling/smoke", "model=decoder_1m"])
    with torch.device("cuda"):
        models = decoders_sharing_parameters(config, [1, 2, 4], VOCABULARY)
    assert len({id(p) for model in models.values() for p in model.parameters()}) == len(
        list(models[1].parameters())
    )
    assert decoder_flops(config, 4, VOCABULARY, [2, 8]) > 0
    with torch.autocast("cuda", torch.bfloat16):
        logits = [
            m.logits(torch.ones(2, 8, dtype=torch.long, device="cuda")) for m in models.values()
        ]
    assert all(part.isfinite().all() for part in logits)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
@pytest.mark.parametrize(
    "experiment",
    ["ntl/arithmetic", "ntl/multiplication", "mtp/code", "mtp/polynomials", "mtp/induction"],
)
def test_runs(
    experiment: str, precision: str, tmp_path: Path, cache_dir: Path, official_data: Path
) -> None:
    """A few steps of training, and the evaluation."""
    overrides = [
        f"experiment={experiment}/smoke", f"results_dir={tmp_path}", f"cache_dir={cache_dir}",
        "trainer.accelerator=gpu", f"trainer.precision={precision}", "trainer.progress=false",
    ]  # fmt: skip
    if experiment == "ntl/arithmetic":
        overrides += [f"dataset.path={official_data}", "dataset.train_per_difficulty=80",
                      "dataset.validation_per_difficulty=10", "dataset.test_size=20"]  # fmt: skip
    folder = run(compose(overrides))
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["hardware"]["gpu"] == torch.cuda.get_device_name()
    assert report["metrics"]
    assert all(value == value for value in report["metrics"].values() if value is not None)
