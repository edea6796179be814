import io
import random
from pathlib import Path

import pytest
import sentencepiece

from beyond_ce.tokenizers import BPETokenizer, DigitTokenizer, SubwordTokenizer


@pytest.fixture(scope="session", params=[BPETokenizer, DigitTokenizer, SubwordTokenizer])
def tokenizer(request, questions):
    """A tokenizer of each class, trained on the questions."""
    trained = request.param(vocab_size=600)
    trained.train(questions)
    return trained


@pytest.fixture(scope="session")
def t5_model(tmp_path_factory, questions) -> Path:
    """A small SentencePiece file made as T5's was: unigram, nmt_nfkc, pad 0, eos 1, unk 2."""
    draw = random.Random(1)
    mixed = [
        f"the {draw.randint(1, 99)}th of May, ({draw.randint(1900, 2020)})" for _ in range(500)
    ]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(questions + mixed),
        model_writer=model,
        model_type="unigram",
        vocab_size=500,
        character_coverage=1.0,
        split_by_number=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    path = tmp_path_factory.mktemp("t5") / "spiece.model"
    path.write_bytes(model.getvalue())
    return path
