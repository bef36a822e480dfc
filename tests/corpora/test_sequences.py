import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.corpora import Corpus, repeated_random, tokenize, usable_tokens
from headway.errors import CorpusError, UsageError


class Letters:
    """A token is a letter; its id is its code point."""

    bos_id = 1

    def encode(self, text):
        return [ord(letter) for letter in text]


def corpus(*texts):
    return Corpus.of("letters", texts)


def read(texts, **options):
    return tokenize(corpus(*texts), Letters(), **{"context_length": 7, "vocab_size": 128} | options)


def test_each_text_is_a_sequence_of_its_own():
    sequences = read(["abc", "x", "de", "fghijkl"])
    assert [row.tolist() for row in sequences.ids] == [[97, 98, 99], [100, 101], list(range(102, 109))]
    assert all(row.dtype == np.int64 for row in sequences.ids)
    assert sequences.text.tolist() == [0, 2, 3]
    assert (sequences.n_short, sequences.n_windowed, sequences.n_tokens, len(sequences)) == (1, 0, 12, 3)
    assert sequences.notes() == ["1 text of fewer than 2 tokens was left out"]
    assert read(["abc", "x", "y"]).notes() == ["2 texts of fewer than 2 tokens were left out"]


def test_a_long_text_becomes_windows_that_lose_nothing():
    sequences = read(["abcdefgh", "ab"])  # 8 tokens in a context of 7: two windows of 4, and not 7 and a stub of 1
    assert [len(row) for row in sequences.ids] == [4, 4, 2]
    assert sequences.text.tolist() == [0, 0, 1]
    assert "1 text longer than the model's context was split into 2 windows" in sequences.notes()[0]


def test_a_bos_starts_every_window_and_counts_as_a_token():
    sequences = read(["abcdefg", "x"], add_bos=True)
    assert [row.tolist() for row in sequences.ids] == [[1, 97, 98, 99, 100], [1, 101, 102, 103], [1, 120]]
    assert (sequences.n_short, sequences.n_windowed) == (0, 1)


@given(st.lists(st.text("abc", min_size=1, max_size=40), min_size=1), st.integers(4, 12), st.booleans())
def test_windows_partition_the_texts(texts, context, add_bos):
    texts.append("ab")
    sequences = read(texts, context_length=context, add_bos=add_bos)
    start = int(add_bos)
    for number, text in enumerate(texts):
        windows = [row for row, of in zip(sequences.ids, sequences.text, strict=True) if of == number]
        joined = "".join(chr(token) for row in windows for token in row[start:])
        assert joined == (text if len(text) + start >= 2 else "")
        assert all(2 <= len(row) <= context for row in windows)
        assert all(row[0] == 1 for row in windows if add_bos)


def test_a_batch_encoder_is_used_where_there_is_one():
    class Batches(Letters):
        def encode_batch(self, texts):
            return [[ord(letter) for letter in text.upper()] for text in texts]

    sequences = tokenize(corpus("ab", "cd"), Batches(), context_length=7, vocab_size=128)
    assert [row.tolist() for row in sequences.ids] == [[65, 66], [67, 68]]


def test_texts_of_one_token_alone_are_no_corpus():
    with pytest.raises(CorpusError, match="none of the 2 texts of the corpus letters has 2 tokens"):
        read(["a", "b"])


def test_a_token_outside_the_embedding_is_named():
    with pytest.raises(CorpusError, match=r"token id 122 \(text 1 of the corpus letters: 'xyz'\).*vocabulary of 122"):
        read(["abc", "xyz"], vocab_size=122)


def test_a_tokenizer_without_bos_cannot_add_one():
    class Headless(Letters):
        bos_id = None

    with pytest.raises(UsageError, match="has no token that starts a text"):
        tokenize(corpus("ab"), Headless(), context_length=7, vocab_size=128, add_bos=True)


@pytest.mark.parametrize(("context", "add_bos"), [(2, False), (3, True)])
def test_a_context_too_small_for_any_text(context, add_bos):
    with pytest.raises(UsageError, match=f"context of {context} tokens"):
        read(["abc"], context_length=context, add_bos=add_bos)


class Padded:
    special_ids = frozenset({0})

    @property
    def vocab(self):
        return {"<end>": 0, "a": 1, "b": 2, "c": 5, "extra": 9}


def test_usable_tokens_are_those_that_the_tokenizer_has_and_the_model_reads():
    assert usable_tokens(Padded(), vocab_size=8).tolist() == [1, 2, 5]
    assert usable_tokens(Padded(), vocab_size=16).tolist() == [1, 2, 5, 9]


@given(st.integers(2, 13), st.integers(1, 5), st.integers(0, 2**32))
def test_random_tokens_are_distinct_and_repeated_once(length, n, seed):
    ids = np.array([3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43])
    sequences = repeated_random(ids, length, n, seed)
    assert len(sequences) == n
    for sequence in sequences:
        assert sequence.shape == (2 * length,)
        assert sequence.dtype == np.int64
        assert (sequence[:length] == sequence[length:]).all()
        assert len(set(sequence[:length])) == length
        assert set(sequence) <= set(ids)
    again = repeated_random(ids, length, n, seed)
    assert all((one == two).all() for one, two in zip(sequences, again, strict=True))


def test_every_token_is_drawn_as_often_as_any_other():
    drawn = np.concatenate([sequence[:3] for sequence in repeated_random(np.arange(10), 3, 4000, seed=0)])
    # 12,000 draws, 1,200 each; a draw without replacement varies less than the binomial's 33: five of those.
    assert np.abs(np.bincount(drawn) - 1200).max() < 165


def test_seeds_differ_and_an_id_given_twice_counts_once():
    ids = np.arange(50)
    assert (repeated_random(ids, 20, 1, 1)[0] != repeated_random(ids, 20, 1, 2)[0]).any()
    assert len(set(repeated_random(np.array([1, 1, 1, 2, 3]), 3, 1, 0)[0][:3])) == 3
    with pytest.raises(UsageError, match="cannot draw 4 distinct random tokens from 3"):
        repeated_random(np.array([1, 1, 2, 3]), 4, 1, 0)


@pytest.mark.parametrize(("length", "n"), [(1, 3), (5, 0)])
def test_too_short_or_too_few(length, n):
    with pytest.raises(UsageError, match="at least 2"):
        repeated_random(np.arange(9), length, n, 0)
