import json

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from headway.errors import CheckpointError
from headway.models import load_tokenizer
from headway.suites.selection import TOKENIZER_FILES


@pytest.fixture
def folder(tmp_path):
    """A tokenizer that, left to itself, adds a BOS, cuts texts off and pads them."""
    words = {word: number for number, word in enumerate(["<s>", "a", "b", "c", "<pad>"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<s>", "<pad>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=8, pad_id=4, pad_token="<pad>")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": {"content": "<s>"}}))
    return tmp_path


def test_text_and_nothing_else(folder):
    tokenizer = load_tokenizer(folder)
    assert tokenizer.encode("a b c a b c") == [1, 2, 3, 1, 2, 3]
    assert tokenizer.encode_batch(["a", "b c"]) == [[1], [2, 3]]
    assert tokenizer.decode([1, 0, 2]) == "a <s> b"
    assert tokenizer.bos_id == 0
    assert tokenizer.special_ids == {0, 4}
    assert tokenizer.vocab_size == len(tokenizer.vocab) == 5


def test_agrees_with_transformers(folder):
    other = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    assert load_tokenizer(folder).encode("c b a") == other.encode("c b a", add_special_tokens=False)


def test_folders_with_equal_files_share_one(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    for path in folder.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    assert load_tokenizer(other) is load_tokenizer(folder)
    (other / "tokenizer_config.json").write_text("{}")
    assert load_tokenizer(other).bos_id is None
    assert load_tokenizer(other).identity != load_tokenizer(folder).identity


@pytest.mark.parametrize("name", TOKENIZER_FILES)
def test_every_file_of_a_tokenizer_changes_its_identity(folder, name):
    before = load_tokenizer(folder).identity
    path = folder / name
    path.write_text((path.read_text() if path.is_file() else "{}") + "\n")
    assert load_tokenizer(folder).identity != before


def test_gpt2s_older_files(tmp_path):
    """vocab.json and merges.txt, as GPT-2 was first published; the config says which tokenizer they make."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: number for number, letter in enumerate([*letters, "ab", "<|endoftext|>"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode("abc") == [vocab["ab"], vocab["c"]]


@pytest.mark.parametrize(("content", "words"), [(None, "holds no readable tokenizer"), ("{", "is not a tokenizer")])
def test_absent_or_damaged(tmp_path, content, words):
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError, match=words):
        load_tokenizer(tmp_path)
