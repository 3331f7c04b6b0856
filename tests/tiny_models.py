"""Models of a few kilobytes with random weights, saved as the hub has them."""

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForTokenClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

SHAPE = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "initializer_range": 0.5,
}


def saved(path, tokenizer, model):
    tokenizer.save_pretrained(path)
    model.save_pretrained(path)
    return path


def bert_tokenizer(words, length=20):
    """Words of a vocabulary; whatever else is unknown."""
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=length, **names)


def bert_classifier(path, words, length=20):
    """A classifier of two labels."""
    torch.manual_seed(0)
    config = BertConfig(**SHAPE, max_position_embeddings=length)
    return saved(path, bert_tokenizer(words, length), BertForTokenClassification(config))


CHATML = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}
"""


def chatting_llama(path, length=16_384):
    """A causal model that can be talked to; its tokens are bytes."""
    words = ["<|im_start|>", "<|im_end|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = {"bos_token": words[0], "eos_token": words[1], "pad_token": words[1]}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=CHATML, **names)
    torch.manual_seed(0)
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    shape = SHAPE | {"vocab_size": len(words)}
    config = LlamaConfig(**shape, **ids, max_position_embeddings=length)
    return saved(path, fast, LlamaForCausalLM(config))
