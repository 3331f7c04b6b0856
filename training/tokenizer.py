"""Train the tokenizer of the small language model.

    python training/tokenizer.py --data FOLDER --out runs/tokenizer

Byte-level BPE: any text is representable and no character is unknown.  Every digit is a token of
its own, so that a number's surprise is the sum of its digits'; white space is kept, runs of it
(indentation) become tokens.  The only special token is BOS, and text that spells its name is text.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from lm_data import BOS, Sources, read, shards

SIZE = 16_384
SAMPLE_MB = 60

WORDS = (
    r"'(?:[sdmt]|ll|ve|re)| ?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Where text is cut before pairs are merged: contractions, words, digits, signs, lines, space."""


def main() -> None:
    """Read the command line, train, write ``tokenizer.json``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of train*.jsonl.zst")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=SIZE, help="tokens, BOS included")
    parser.add_argument("--sample-mb", type=float, default=SAMPLE_MB, help="characters / 1e6")
    parser.add_argument("--only", nargs="*", default=[], metavar="PATTERN", help="sources")
    parser.add_argument("--without", nargs="*", default=[], metavar="PATTERN", help="sources")
    args = parser.parse_args()
    sources = Sources(tuple(args.only), tuple(args.without))
    trained = train(sample(args.data, sources, int(args.sample_mb * 1e6)), args.size)
    args.out.mkdir(parents=True, exist_ok=True)
    trained.save(str(args.out / "tokenizer.json"))
    print(f"{args.out / 'tokenizer.json'}: {trained.get_vocab_size()} tokens")


def sample(folder: Path, sources: Sources, characters: int) -> Iterator[str]:
    """Read texts of the training split, which is shuffled, until ``characters`` are had."""
    for path in shards(folder, "train"):
        for record in read(path, sources):
            yield record.text
            characters -= len(record.text)
            if characters <= 0:
                return


def train(texts: Iterator[str], size: int) -> Tokenizer:
    """Learn ``size`` tokens, BOS (number 0) and the 256 bytes included."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=[BOS],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            max_token_length=32,
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return tokenizer


if __name__ == "__main__":
    main()
