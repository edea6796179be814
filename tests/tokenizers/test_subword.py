import torch

from beyond_ce.tokenizers import SubwordTokenizer


def test_subword_learns_multi_digit_pieces(questions):
    tokenizer = SubwordTokenizer(vocab_size=600)
    tokenizer.train(questions)
    values = tokenizer.number_values()
    assert (values > 9).sum() > 90
    assert len(tokenizer.encode(["123456"])[0]) < 6


def test_t5_subword_values_pieces_with_and_without_a_space(t5_model):
    tokenizer = SubwordTokenizer(model=str(t5_model))
    values = tokenizer.number_values()
    found = 0
    for i in range(500):
        digits = tokenizer._pieces.id_to_piece(i).removeprefix("▁")
        if digits.isdecimal():
            assert values[i] == int(digits)
            found += tokenizer._pieces.id_to_piece(i).startswith("▁")
        else:
            assert torch.isnan(values[i])
    assert found > 0
