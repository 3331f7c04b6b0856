from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from proxy.errors import PolicyError
from proxy.scorers import causal_lm
from proxy.scorers.arithmetic import FP32, Arithmetic, Runtime
from proxy.scorers.causal_lm import GRID, CausalLM, Passage
from proxy.scorers.language_models import load_causal_lm

END = "<|endoftext|>"
TEXT = "the cat sat on the mat, and the dog sat on the cat; 12 dogs and 3 cats sat down. "
WINDOW = 40


def tokenizer():
    """Bytes and a few merges; one special token."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=290, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    trained.train_from_iterator([TEXT], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=trained, eos_token=END)


def saved(model, path):
    tokenizer().save_pretrained(path)
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def llama_folder(tmp_path_factory):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=290,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=WINDOW + 1,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=0,
    )
    return saved(LlamaForCausalLM(config), tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def gpt2_folder(tmp_path_factory):
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=290,
        n_positions=WINDOW + 1,
        n_embd=32,
        n_layer=2,
        n_head=2,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
    )
    return saved(GPT2LMHeadModel(config), tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="module")
def lm(llama_folder):
    return load_causal_lm(str(llama_folder), runtime=FP32)


def plainly(folder, ids, model_class=LlamaForCausalLM):
    """Score ids behind token 0 in one go, as the formula says."""
    model = model_class.from_pretrained(folder).eval()
    with torch.inference_mode():
        logits = model(torch.tensor([[0, *ids]])).logits[0, :-1]
    return -torch.log_softmax(logits, 1).gather(1, torch.tensor(ids)[:, None])[:, 0].numpy()


def near(found, expected, *, grid=1):
    """Equal within ``grid`` steps of the rounding."""
    return found.shape == expected.shape and np.abs(found - expected).max() <= grid / GRID


def test_scores_are_minus_log_probabilities_from_the_first_token_on(lm, llama_folder):
    text = TEXT[:40]
    ids = lm.tokenise(text).ids
    assert 0 < len(ids) <= WINDOW
    assert near(lm.self_information([Passage(text)])[0].nats, plainly(llama_folder, ids.tolist()))


SHAPE = {
    "vocab_size": 290,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": WINDOW + 1,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": 0,
}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["qwen2", "qwen3", "mistral", "gemma"])
def test_any_architecture_is_read_by_folder(tmp_path, name, tied):
    torch.manual_seed(0)
    shape = AutoConfig.for_model(name, **SHAPE, tie_word_embeddings=tied)
    model = AutoModelForCausalLM.from_config(shape)
    folder = saved(model, tmp_path)
    found = load_causal_lm(str(folder), runtime=FP32)
    ids = found.tokenise(TEXT[:40]).ids
    expected = plainly(folder, ids.tolist(), AutoModelForCausalLM)
    assert near(found.self_information([Passage(TEXT[:40])])[0].nats, expected)
    first, prefix = found.extend(found.start(), ids[:5])
    second, _ = found.extend(prefix, ids[5:])
    assert near(np.concatenate([first, second]), expected)


def test_a_model_of_learnt_positions_is_read_by_folder(gpt2_folder):
    found = load_causal_lm(str(gpt2_folder), runtime=FP32)
    ids = found.tokenise("the cat sat").ids
    expected = plainly(gpt2_folder, ids.tolist(), GPT2LMHeadModel)
    assert near(found.self_information([Passage("the cat sat")])[0].nats, expected)


@pytest.mark.parametrize("rows_at_once", [1000, 7])
def test_a_model_that_caps_its_logits_is_read_as_it_means_to_be(tmp_path, rows_at_once):
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=290,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=WINDOW + 1,
        final_logit_softcapping=1.0,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
        sliding_window=WINDOW,
    )
    folder = saved(Gemma2ForCausalLM(config), tmp_path)
    found = load_causal_lm(str(folder), runtime=FP32)
    read = CausalLM(found._model, found._tokenizer, 0, window=WINDOW, revision="")
    ids = read.tokenise(TEXT[:40]).ids.tolist()
    expected = plainly(folder, ids, Gemma2ForCausalLM)
    assert near(read.self_information([Passage(TEXT[:40])])[0].nats, expected)
    assert expected.max() < np.log(290) + 2  # the cap was at work


def test_scores_lie_on_the_grid(lm):
    nats = lm.self_information([Passage(TEXT)])[0].nats
    assert np.array_equal(nats * GRID, np.round(nats * GRID))
    assert nats.dtype == np.float32
    assert not nats.flags.writeable


def test_offsets_cover_the_text_in_order(lm):
    text = "the cat 🙂 sat — at 12:30"
    tokens = lm.tokenise(text)
    assert (tokens.starts[0], tokens.ends[-1]) == (0, len(text))
    assert np.all(np.diff(tokens.starts) >= 0)
    covered = {i for s, e in zip(tokens.starts, tokens.ends, strict=True) for i in range(s, e)}
    assert covered == set(range(len(text)))
    smile = text.index("🙂")
    assert sum(s <= smile < e for s, e in zip(tokens.starts, tokens.ends, strict=True)) > 1


def test_special_tokens_in_text_are_plain_text(lm):
    tokens = lm.tokenise(f"the {END} cat")
    assert 0 not in tokens.ids
    assert len(tokens.ids) > 3


def test_a_lone_surrogate_is_read_and_keeps_the_offsets(lm):
    found = lm.self_information([Passage("cat \ud800 sat")])[0]
    assert found.ends[-1] == len("cat \ud800 sat")


def test_no_text_has_no_scores(lm):
    found = lm.self_information([Passage("", prefix="the cat")])[0]
    assert (found.nats.shape, found.starts.shape, found.mean_nats) == ((0,), (0,), 0.0)


def test_a_prefix_changes_scores_and_not_tokens(lm, llama_folder):
    alone, told = lm.self_information([Passage("the dog"), Passage("the dog", prefix="the cat ")])
    assert np.array_equal(alone.starts, told.starts)
    before, after = lm.tokenise("the cat ").ids.tolist(), lm.tokenise("the dog").ids.tolist()
    assert near(told.nats, plainly(llama_folder, before + after)[len(before) :])
    assert not np.array_equal(alone.nats, told.nats)


def test_a_long_prefix_leaves_half_of_the_window_to_the_text(lm, llama_folder):
    found = lm.self_information([Passage("the dog", prefix=TEXT * 3)])[0]
    before = lm.tokenise(TEXT * 3).ids[-(WINDOW // 2) :].tolist()
    after = lm.tokenise("the dog").ids.tolist()
    assert near(found.nats, plainly(llama_folder, before + after)[len(before) :])


def test_a_text_longer_than_the_window_is_read_in_overlapping_windows(lm, llama_folder):
    text = TEXT * 3
    ids = lm.tokenise(text).ids.tolist()
    found = lm.self_information([Passage(text)])[0].nats
    assert near(found[:WINDOW], plainly(llama_folder, ids[:WINDOW]))
    second = ids[WINDOW - WINDOW // 4 : 2 * WINDOW - WINDOW // 4]
    expected = plainly(llama_folder, second)[WINDOW // 4 :]
    assert near(found[WINDOW : WINDOW + len(expected)], expected)


@given(tokens=st.integers(0, 500), room=st.integers(1, 60))
def test_windows_score_every_token_once_and_fit(tokens, room):
    found = list(causal_lm.windows(tokens, room))
    assert [i for w in found for i in range(w.first, w.end)] == list(range(tokens))
    assert all(w.end - w.begin <= room for w in found)
    assert all(w.first - w.begin == room // 4 for w in found[1:])


WORDS = st.sampled_from([*TEXT.split(), "😀", "12", END])
TEXTS = st.lists(st.lists(WORDS, max_size=60).map(" ".join), min_size=1, max_size=6)


@given(texts=TEXTS, batch_tokens=st.integers(1, 400))
@settings(max_examples=25, deadline=None)
def test_batched_scores_equal_single_ones_within_the_grid(lm, texts, batch_tokens):
    passages = [Passage(text, prefix=texts[0][:9]) for text in texts]
    for one, many in zip(
        lm.self_information(passages),
        lm.self_information(passages, batch_tokens=batch_tokens),
        strict=True,
    ):
        assert np.allclose(one.nats, many.nats, rtol=0, atol=1 / GRID)
        assert np.array_equal(one.starts, many.starts)


@pytest.mark.parametrize("folder", ["llama_folder", "gpt2_folder"])
def test_in_fixed_shapes_a_text_scores_the_same_bits_whatever_is_beside_it(folder, request):
    path = str(request.getfixturevalue(folder))
    found = load_causal_lm(path, runtime=FP32)
    shaped = load_causal_lm(path, Runtime(Arithmetic.FP32, shape_tokens=328))
    others = [Passage(TEXT[i:] * 2, prefix="the cat") for i in range(9)]
    (alone,) = shaped.self_information([Passage(TEXT)])
    among = shaped.self_information([*others, Passage(TEXT), *others])[9]
    assert shaped.together == (328, 1312)
    assert np.array_equal(alone.nats, among.nats)
    assert near(alone.nats, found.self_information([Passage(TEXT)])[0].nats)


@pytest.mark.parametrize(
    ("precision", "steps"), [(Arithmetic.FP32, 1), (Arithmetic.INT8, 8), (Arithmetic.BF16, 16)]
)
def test_batches_of_the_embedded_model_score_as_single_texts_within_the_rounding(precision, steps):
    """Coarser numbers are rounded another way where the shapes of the sums are others."""
    found = load_causal_lm(runtime=Runtime(precision))
    passages = [Passage(TEXT[i : i + 60]) for i in range(0, 30, 3)]
    passages += [Passage("the"), Passage(""), Passage(TEXT * 2)]
    one, many = (
        np.concatenate([rated.nats for rated in found.self_information(passages, batch_tokens=n)])
        for n in (0, 800)
    )
    assert np.abs(one - many).max() <= steps / GRID
    assert np.abs(one - many).mean() <= 1 / GRID


@pytest.mark.parametrize("precision", list(Arithmetic))
def test_scores_do_not_move_with_what_else_is_asked(llama_folder, precision):
    found = load_causal_lm(str(llama_folder), runtime=Runtime(precision))
    others = [Passage(TEXT[i:] * 2) for i in range(5)]
    alone = found.self_information([Passage(TEXT)])[0]
    among = found.self_information([*others, Passage(TEXT), *others])[5]
    assert np.array_equal(alone.nats, among.nats)


def test_threads_side_by_side_score_as_one(lm):
    passages = [Passage(TEXT[i:] * 2) for i in range(24)]
    expected = [found.nats.tobytes() for found in lm.self_information(passages)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda passage: lm.self_information([passage])[0], passages))
    assert [one.nats.tobytes() for one in found] == expected


@pytest.mark.parametrize("rows_at_once", [1, 7])
def test_scores_do_not_depend_on_how_many_logits_are_held(lm, rows_at_once):
    frugal = CausalLM(lm._model, lm._tokenizer, 0, window=WINDOW, revision="")
    expected = lm.self_information([Passage(TEXT)])[0].nats
    assert near(frugal.self_information([Passage(TEXT)])[0].nats, expected)


def test_steps_yield_the_tokens_they_read(lm):
    read = list(lm.steps([Passage(TEXT * 3)]))
    tokens = len(lm.tokenise(TEXT * 3).ids)
    assert read[:-1] == [WINDOW + 1] * (len(read) - 1)  # BOS comes with each window
    assert sum(read) == tokens + len(read) + (len(read) - 1) * (WINDOW // 4)


def test_reading_on_equals_reading_in_one_go(lm):
    ids = lm.tokenise(TEXT[:40]).ids
    whole, _ = lm.extend(lm.start(), ids)
    first, prefix = lm.extend(lm.start(), ids[:5])
    second, longer = lm.extend(prefix, ids[5:])
    assert near(np.concatenate([first, second]), whole)
    assert len(longer) == len(ids) + 1
    assert near(lm.extend(prefix, ids[5:])[0], second, grid=0)  # the old prefix is still good


def test_what_is_followed_is_heard_though_not_scored(lm):
    ids = lm.tokenise(TEXT[:40]).ids
    _, longer = lm.extend(lm.start(), ids[:5])
    heard = lm.follow(lm.start(), ids[:5])
    assert heard.ids.tolist() == longer.ids.tolist()
    assert near(lm.extend(heard, ids[5:])[0], lm.extend(longer, ids[5:])[0], grid=0)
    assert lm.follow(heard, ids[:0]) is heard


def test_a_cropped_prefix_reads_on_as_if_no_more_had_been_read(lm):
    ids = lm.tokenise(TEXT[:40]).ids
    _, long = lm.extend(lm.start(), ids)
    _, short = lm.extend(lm.start(), ids[:4])
    assert near(lm.extend(long.crop(5), ids[4:])[0], lm.extend(short, ids[4:])[0])
    assert near(lm.extend(long.crop(1), ids)[0], lm.extend(lm.start(), ids)[0])


def test_gathered_tokens_are_seen_where_they_stood_and_dropped_ones_are_not(lm, llama_folder):
    """The twin: one forward of the whole, the dropped tokens masked for what comes after."""
    ids = lm.tokenise(TEXT[:40]).ids
    window, after = ids[:9], ids[9:12]
    _, read = lm.extend(lm.start(), window)
    kept = [0, 2, 3, 7]
    found, _ = lm.extend(read.gather(kept), after)

    model = LlamaForCausalLM.from_pretrained(llama_folder, attn_implementation="eager").eval()
    again = [0, *window, window[6], *after]  # the last kept token runs once more, with the kept
    places = torch.tensor([[*range(10), 7, *range(10, 13)]])
    sees = torch.tril(torch.ones(len(again), len(again), dtype=torch.bool))
    sees[10:, [1, 4, 5, 6, 7, 8, 9]] = False
    mask = torch.where(sees, 0.0, torch.finfo(torch.float32).min)[None, None]
    with torch.inference_mode():
        logits = model(torch.tensor([again]), position_ids=places, attention_mask=mask).logits
    expected = -torch.log_softmax(logits[0, 10:-1], 1)
    expected = expected.gather(1, torch.from_numpy(after)[:, None])[:, 0].numpy()
    assert near(found, expected)


@pytest.mark.parametrize("length", [0, 5])
def test_cropping_to_what_was_not_read_is_refused(lm, length):
    _, read = lm.extend(lm.start(), lm.tokenise("the cat sat").ids[:3])
    with pytest.raises(ValueError, match=f"length {length}: wanted 1 to 4"):
        read.crop(length)


@pytest.mark.parametrize("kept", [[], [1, 2], [0, 2, 2], [0, 3, 1]])
def test_gathering_needs_ascending_indices_and_bos(lm, kept):
    _, read = lm.extend(lm.start(), lm.tokenise("the cat sat").ids)
    with pytest.raises(ValueError, match="kept"):
        read.gather(kept)


def test_reading_beyond_the_window_is_refused(lm):
    ids = lm.tokenise(TEXT * 2).ids
    _, full = lm.extend(lm.start(), ids[:WINDOW])
    with pytest.raises(ValueError, match=f"position {WINDOW + 1}: wanted at most {WINDOW}"):
        lm.extend(full, ids[:1])


@pytest.mark.parametrize("precision", [Arithmetic.BF16, Arithmetic.INT8])
@pytest.mark.parametrize("folder", ["llama_folder", "gpt2_folder"])
def test_coarser_numbers_give_nearly_the_same_scores(folder, precision, request):
    path = str(request.getfixturevalue(folder))
    exact = load_causal_lm(path, runtime=FP32)
    coarse = load_causal_lm(path, runtime=Runtime(precision))
    expected = exact.self_information([Passage(TEXT)])[0].nats
    found = coarse.self_information([Passage(TEXT)])[0].nats
    assert np.abs(found - expected).mean() < 0.15
    assert np.corrcoef(found, expected)[0, 1] > 0.97
    assert exact.revision != coarse.revision


def test_the_revision_follows_the_weights(lm, llama_folder, tmp_path):
    model = LlamaForCausalLM.from_pretrained(llama_folder)
    with torch.no_grad():
        model.model.norm.weight[0] += 1
    other = load_causal_lm(str(saved(model, tmp_path)), runtime=FP32)
    assert other.revision.split("@")[1] != lm.revision.split("@")[1]


@pytest.mark.parametrize("name", ["not/a/hub name", "empty"])
def test_a_model_that_cannot_be_loaded_is_named_in_one_line(name, tmp_path):
    wanted = str(tmp_path) if name == "empty" else name
    with pytest.raises(PolicyError, match="cannot be loaded") as caught:
        load_causal_lm(wanted)
    assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def embedded():
    return load_causal_lm()


@pytest.mark.parametrize(
    "text",
    [
        "At the end of the day, there is nothing more to be done about it.",
        "You can use the following command to install the package.",
        "She looked at him for a moment and then went out of the room.",
        "The results of the study are shown in the table below.",
    ],
)
def test_the_embedded_model_is_less_surprised_by_a_phrase_than_by_its_words_shuffled(
    embedded, text
):
    words = text.split()
    np.random.default_rng(0).shuffle(words)
    phrase, shuffled = embedded.self_information([Passage(text), Passage(" ".join(words))])
    assert phrase.mean_nats < 0.8 * shuffled.mean_nats


def test_the_embedded_model_expects_little_words_and_not_rare_ones(embedded):
    text = "The transmission of the Zeppelin was of no importance to the committee."
    found = embedded.self_information([Passage(text)])[0]
    by_start = dict(zip(found.starts.tolist(), found.nats.tolist(), strict=True))
    little = by_start[text.index(" of")], by_start[text.index(" the Z")]
    assert max(little) < 3 < by_start[text.index(" transmission")]


def test_the_embedded_model_scores_alike_in_every_precision(embedded):
    text = "It is one of the largest cities in the country, with 2,000,000 people."
    expected = embedded.self_information([Passage(text)])[0].nats
    for precision in Arithmetic:
        other = load_causal_lm(runtime=Runtime(precision))
        assert np.abs(other.self_information([Passage(text)])[0].nats - expected).mean() < 0.1
