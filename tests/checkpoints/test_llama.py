from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from beyond_ce.checkpoints import load_decoder, read_checkpoint, write_checkpoint
from beyond_ce.errors import RunError, UsageError
from beyond_ce.models import load_llama_checkpoint

Release = Callable[..., Path]
Weights = Callable[..., dict[str, Tensor]]
CUT = {
    0: ("wq", "wk", "wv", "w1", "w3", "output"),
    1: ("wo", "w2", "tok_embeddings"),
}


def reference(weights: dict[str, Tensor], tokens: Tensor, n: int, heads: int = 4) -> Tensor:
    """Logits [B, T, n, V] from plain functions of the state dict, rotating with complex numbers."""
    length, dim = tokens.shape[1], weights["norm.weight"].shape[0]
    size = dim // heads
    speeds = 1.0 / 10000.0 ** (torch.arange(0, size, 2) / size)
    turns = torch.polar(torch.ones(length, size // 2), torch.arange(length)[:, None] * speeds)
    hidden_future = torch.full((length, length), -torch.inf).triu(1)

    def normed(x: Tensor, name: str) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weights[f"{name}.weight"]

    def turned(x: Tensor) -> Tensor:  # [B, H, T, E]
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
        return torch.view_as_real(pairs * turns).flatten(-2)

    def layer(x: Tensor, name: str) -> Tensor:
        def project(x: Tensor, part: str) -> Tensor:
            return x @ weights[f"{name}.{part}.weight"].T

        h = normed(x, f"{name}.attention_norm")
        q, k, v = (
            project(h, f"attention.{part}").view(*h.shape[:2], heads, size).transpose(1, 2)
            for part in ("wq", "wk", "wv")
        )
        scores = turned(q) @ turned(k).transpose(2, 3) / size**0.5 + hidden_future
        x = x + project((scores.softmax(-1) @ v).transpose(1, 2).flatten(2), "attention.wo")
        h = normed(x, f"{name}.ffn_norm")
        gated = F.silu(project(h, "feed_forward.w1")) * project(h, "feed_forward.w3")
        return x + project(gated, "feed_forward.w2")

    count = len({name.split(".")[1] for name in weights if name.startswith("layers.")})
    x = weights["tok_embeddings.weight"][tokens]
    for i in range(count - 1):
        x = layer(x, f"layers.{i}")
    blocks = [f"layers.{count - 1}", *(f"extra_heads.{i}" for i in range(n - 1))]
    states = torch.stack([layer(x, block) for block in blocks], dim=2)
    return normed(states, "norm") @ weights["output.weight"].T


@pytest.mark.parametrize("n", [1, 2, 4])
def test_equals_a_plain_reference(
    release: Release, weights_of: Weights, tokens: Tensor, n: int
) -> None:
    model = load_llama_checkpoint(release(n))
    with torch.no_grad():
        logits = model.logits(tokens)
    expected = reference(weights_of(n), tokens, n)
    assert logits.shape == expected.shape == (3, 9, n, 52)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


def test_the_number_of_layers_may_be_that_of_layers_alone(release: Release, tokens: Tensor) -> None:
    folder = release(4)
    model = load_llama_checkpoint(folder)
    params = json.loads((folder / "params.json").read_text())
    (folder / "params.json").write_text(json.dumps({**params, "n_layers": 3}))
    with torch.no_grad():
        assert torch.equal(load_llama_checkpoint(folder).logits(tokens), model.logits(tokens))


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_are_merged(release: Release, weights_of: Weights, parts: int) -> None:
    weights = {**weights_of(2), "rope.freqs": torch.ones(4)}
    whole = load_llama_checkpoint(release(2, weights))
    folder = release(3, weights)
    for part in range(parts):
        torch.save(cut(weights, part, parts), folder / f"consolidated.{part:02}.pth")
    merged = load_llama_checkpoint(folder)
    for name, value in whole.state_dict().items():
        assert torch.equal(merged.state_dict()[name], value), name


@pytest.mark.parametrize("name", ["consolidated.pth", "consolidated-4.pth", "model.pth"])
@torch.no_grad()
def test_the_only_file_may_have_any_name(release: Release, tokens: Tensor, name: str) -> None:
    folder = release(4)
    expected = load_llama_checkpoint(folder).logits(tokens)
    (folder / "consolidated.00.pth").rename(folder / name)
    assert torch.equal(load_decoder(folder).logits(tokens), expected)
    if name != "model.pth":  # what else is there does not matter
        torch.save([1], folder / "optimizer.pth")
        assert torch.equal(load_decoder(folder).logits(tokens), expected)


@torch.no_grad()
def test_parts_may_have_other_names(release: Release, weights_of: Weights, tokens: Tensor) -> None:
    folder = release(2)
    expected = load_llama_checkpoint(folder).logits(tokens)
    (folder / "consolidated.00.pth").unlink()
    for part, name in enumerate("ab"):
        torch.save(cut(weights_of(2), part, 2), folder / f"{name}.pth")
    assert torch.equal(load_llama_checkpoint(folder).logits(tokens), expected)


def test_files_of_two_checkpoints_are_refused(release: Release) -> None:
    folder = release(2)
    (folder / "consolidated.pth").write_bytes((folder / "consolidated.00.pth").read_bytes())
    with pytest.raises(RunError, match=r"both consolidated.00.pth and consolidated.pth: leave"):
        load_llama_checkpoint(folder)


def test_an_embedding_split_by_rows(release: Release, weights_of: Weights) -> None:
    """As in Llama 3."""
    weights, name = weights_of(2), "tok_embeddings.weight"
    expected = load_llama_checkpoint(release(2, weights)).state_dict()
    folder = release(3, weights)
    for part in range(2):
        rows = weights[name].chunk(2)[part].clone()
        torch.save({**cut(weights, part, 2), name: rows}, folder / f"consolidated.{part:02}.pth")
    merged = load_llama_checkpoint(folder).state_dict()
    assert all(torch.equal(merged[key], value) for key, value in expected.items())


@pytest.mark.parametrize("key", ["model", "state_dict"])
@torch.no_grad()
def test_a_state_dict_inside_of_a_file(
    release: Release, weights_of: Weights, tokens: Tensor, key: str
) -> None:
    expected = load_llama_checkpoint(release(2)).logits(tokens)
    folder = release(3)
    whole = {key: weights_of(2), "optimizer": {"lr": 0.1}, "step": 3}
    torch.save(whole, folder / "consolidated.00.pth")
    assert torch.equal(load_llama_checkpoint(folder).logits(tokens), expected)


def cut(weights: dict[str, Tensor], part: int, parts: int) -> dict[str, Tensor]:
    dimension = {name: dim for dim, names in CUT.items() for name in names}
    return {
        name: value.chunk(parts, dim=dimension[name.split(".")[-2]])[part].clone()
        if name.split(".")[-2] in dimension
        else value
        for name, value in weights.items()
    }


def test_settings_and_types_are_kept_or_chosen(release: Release, weights_of: Weights) -> None:
    weights = weights_of(2, torch.bfloat16)
    folder = release(
        2, weights, max_seq_len=64, rope_theta=500.0, some_later_key="x", vocab_size=52
    )
    model = load_llama_checkpoint(folder)
    assert {value.dtype for value in model.state_dict().values()} == {torch.bfloat16}
    assert model.rotary.table.dtype == torch.float32 and model.rotary.table.device.type == "cpu"
    assert model.max_length == 64 and model.settings["rope_theta"] == 500.0
    assert (model.pad_id, model.eos_id, model.vocab_size) == (0, 2, 52)
    other = load_llama_checkpoint(folder, torch.float64, max_length=16, pad_id=4, eos_id=5)
    assert other.embedding.weight.dtype == torch.float64 and other.max_length == 16
    assert (other.pad_id, other.eos_id) == (4, 5)
    assert load_llama_checkpoint(release(1)).max_length == 4096


def test_a_factor_on_the_feed_forward_size(release: Release, weights_of: Weights) -> None:
    weights = weights_of(1)
    for name, value in weights.items():
        if "feed_forward" in name:
            wide = F.pad(value, (0, 16) if ".w2." in name else (0, 0, 0, 16))
            weights[name] = wide.contiguous()
    model = load_llama_checkpoint(release(1, weights, ffn_dim_multiplier=1.3))
    layer = model.layers[0]
    assert layer.feed_forward.w1.out_features == 112  # 1.3 * 85 = 110, rounded up


@pytest.mark.parametrize("n", [1, 2, 4])
def test_there_and_back_bit_by_bit(
    release: Release, weights_of: Weights, tmp_path: Path, n: int
) -> None:
    folder = release(n, max_seq_len=128)
    write_checkpoint(read_checkpoint(folder), tmp_path / "native", "native")
    write_checkpoint(read_checkpoint(tmp_path / "native"), tmp_path / "llama", "llama")
    stored = torch.load(tmp_path / "llama" / "consolidated.00.pth", weights_only=True)
    weights = weights_of(n)
    assert list(stored) == list(weights)
    assert all(torch.equal(stored[name], value) for name, value in weights.items())
    params = json.loads((folder / "params.json").read_text())
    written = json.loads((tmp_path / "llama" / "params.json").read_text())
    heads = {"n_future_tokens": n} if n > 1 else {}  # loaders of the release read it
    assert written == {**params, "vocab_size": 52, **heads}
    # No more than the weights: tensors mapped from one file do not drag it along.
    size = sum(value.numel() * value.element_size() for value in weights.values())
    assert (tmp_path / "llama" / "consolidated.00.pth").stat().st_size < size * 1.3


def test_weights_are_mapped_and_writable_without_changing_the_file(release: Release) -> None:
    folder = release(2)
    before = (folder / "consolidated.00.pth").read_bytes()
    model = load_llama_checkpoint(folder)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(1)
    assert (folder / "consolidated.00.pth").read_bytes() == before


QUERY = "layers.1.attention.wq.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({QUERY: None}, rf"{QUERY} is missing, expected with shape \[32, 32\]"),
        ({QUERY: (32, 16)}, rf"{QUERY} has shape \[32, 16\], expected \[32, 32\]"),
        ({"norm.weight": None}, r"norm.weight is missing, expected with shape \[32\]"),
        ({"tok_embeddings.weight": None}, r"tok_embeddings.weight is missing"),
        ({"output.weight": (49, 32)}, r"output.weight has shape \[49, 32\], expected \[52, 32\]"),
        ({"extra_heads.2.ffn_norm.weight": None}, r"extra_heads.2.ffn_norm.weight is missing"),
        ({"extra_heads.1.": None}, r"extra_heads.1.attention.wq.weight is missing"),
        ({"extra_heads.2.": None}, r"extra_heads.2.attention.wq.weight is missing"),
        ({"layers.1.": None}, r"layers.1.attention.wq.weight is missing"),
        ({"layers.0.bias": (32,)}, r"layers.0.bias of shape \[32\] is not in the model"),
        ({"extra_heads.7.x": (1,)}, r"extra_heads.7.x of shape \[1\] is not in the model"),
    ],
)  # fmt: skip
def test_the_first_wrong_tensor_is_named(
    release: Release, weights_of: Weights, change: dict, message: str
) -> None:
    weights = weights_of(4)
    for name, shape in change.items():
        if shape is None:
            weights = {key: value for key, value in weights.items() if not key.startswith(name)}
        else:
            weights[name] = torch.zeros(shape)
    with pytest.raises(RunError, match=message) as found:
        load_llama_checkpoint(release(4, weights))
    assert "\n" not in str(found.value) and "released-4" in str(found.value)


def test_mixed_and_quantised_types_are_refused(release: Release, weights_of: Weights) -> None:
    weights = weights_of(2)
    weights[QUERY] = weights[QUERY].half()
    folder = release(2, weights)
    with pytest.raises(RunError, match=f"{QUERY} is float16, .* float32: choose one type"):
        load_llama_checkpoint(folder)
    assert load_llama_checkpoint(folder, torch.float32).embedding.weight.dtype == torch.float32
    weights[QUERY] = weights[QUERY].to(torch.int8)
    with pytest.raises(RunError, match=rf"{QUERY} of shape \[32, 32\] holds int8"):
        load_llama_checkpoint(release(3, weights))


@pytest.mark.parametrize("kept", [0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_named(release: Release, kept: float) -> None:
    folder = release(2)
    path = folder / "consolidated.00.pth"
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(RunError, match=r"consolidated.00.pth is truncated or damaged") as found:
        load_llama_checkpoint(folder)
    assert "\n" not in str(found.value)


def test_nothing_in_a_file_is_executed(release: Release) -> None:
    folder = release(2, {"tok_embeddings.weight": Path("x")})
    with pytest.raises(RunError, match="damaged or holds more than tensors"):
        load_llama_checkpoint(folder)
    torch.save({"weights": {"x": torch.ones(1)}}, folder / "consolidated.00.pth")
    with pytest.raises(RunError, match="weights is a dict, not a tensor: save the model's state"):
        load_llama_checkpoint(folder)
    torch.save([torch.ones(1)], folder / "consolidated.00.pth")
    with pytest.raises(RunError, match="holds a list, not named tensors"):
        load_llama_checkpoint(folder)


def test_parts_that_do_not_fit_are_named(release: Release, weights_of: Weights) -> None:
    weights = weights_of(2)
    folder = release(2, cut(weights, 0, 2))
    first, second = folder / "consolidated.00.pth", folder / "consolidated.01.pth"
    with pytest.raises(RunError, match=r"tok_embeddings.weight has shape \[52, 16\]"):
        load_llama_checkpoint(folder)  # the second is not there
    part = cut(weights, 1, 2)
    torch.save({**part, QUERY: torch.zeros(16, 8)}, second)
    with pytest.raises(RunError, match=rf"01.pth: {QUERY} has shape \[16, 8\].*expected \[16, 32"):
        load_llama_checkpoint(folder)
    torch.save({name: value for name, value in part.items() if name != QUERY}, second)
    with pytest.raises(RunError, match=rf"01.pth: {QUERY} is missing, expected .*\[16, 32\]"):
        load_llama_checkpoint(folder)
    torch.save({**part, "norm.weight": torch.zeros(32)}, second)
    with pytest.raises(RunError, match=r"01.pth: norm.weight of shape \[32\] differs"):
        load_llama_checkpoint(folder)
    torch.save(part, second)
    load_llama_checkpoint(folder)
    second.rename(folder / "consolidated.02.pth")
    with pytest.raises(RunError, match=r"consolidated.01.pth is missing"):
        load_llama_checkpoint(folder)
    first.unlink()
    (folder / "consolidated.02.pth").unlink()
    with pytest.raises(RunError, match=r"has no consolidated"):
        load_llama_checkpoint(folder)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"n_kv_heads": 2}, RunError, r"wk.weight has shape \[32, 32\], expected \[16, 32\]"),
        ({"n_kv_heads": 3}, RunError, "num_kv_heads=3 does not divide the 4 heads"),
        ({"use_scaled_rope": True}, UsageError, "use_scaled_rope without rope_scaling_factor: add"),
        ({"ffn_dim_multiplier": 0.5}, UsageError, "ffn_dim_multiplier=0.5 gives a feed-forward"),
        ({"dim": None}, RunError, "params.json has no dim"),
        ({"dim": "big"}, RunError, "dim='big' is not a positive whole number"),
        ({"norm_eps": -1}, RunError, "norm_eps=-1 is not a positive number"),
        ({"n_heads": 5}, RunError, "params.json does not describe a model: .* does not divide"),
        ({"dim": 64}, RunError, r"tok_embeddings.weight has shape \[52, 32\], expected \[52, 64\]"),
        ({"vocab_size": 40}, RunError, r"has shape \[52, 32\], expected \[40, 32\]"),
        ({"n_layers": 7}, RunError, "extra_heads.3.attention.wq.weight is missing"),
        (
            {"n_layers": 5},
            RunError,
            r"extra_heads.2.attention.wq.weight of shape .* is not in the model",
        ),
        ({"n_future_tokens": 3}, RunError, r"layers.3.attention.wq.weight is missing"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    release: Release, params: dict, error: type[Exception], message: str
) -> None:
    folder = release(4, **params)
    with pytest.raises(error, match=message) as found:
        load_llama_checkpoint(folder)
    assert "\n" not in str(found.value)


def test_a_missing_or_damaged_folder_is_named(release: Release, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        load_llama_checkpoint(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="has no checkpoint"):
        load_decoder(tmp_path / "nowhere")
    folder = release(1)
    (folder / "params.json").write_text('{"dim": ')
    with pytest.raises(RunError, match="params.json is damaged"):
        load_llama_checkpoint(folder)
    (folder / "params.json").write_text("[]")
    with pytest.raises(RunError, match="params.json is not a JSON object"):
        load_llama_checkpoint(folder)
    (folder / "params.json").unlink()
    with pytest.raises(RunError, match="params.json is missing"):
        load_decoder(folder)
