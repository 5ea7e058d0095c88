"""Writes the fixtures beside this file: small tokenizers of two kinds, and what Hugging Face's `tokenizers` makes of some texts.

    python make.py            # needs tokenizers

unigram.json is built as XLM-R's, mT5's and mDeBERTa's tokenizers are, bytelevel.json as RoBERTa's and ModernBERT's; both are trained
on the texts below. expected.json: for each, the special ids and every text's ids and places (code points), whole and by words.
"""

import json
import pathlib

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)

HERE = pathlib.Path(__file__).parent
TEXTS = [
    "the bank of the river near New York City",
    "Grüße aus Köln , sagte Jürgen Müller .",
    "東京は日本の首都です 。",
    "กรุงเทพมหานคร เป็น เมืองหลวง ของ ประเทศไทย",
    "北京 是 中国 的 首都",
    "a  double  blank and ① a <s> in the text 😀 !",
]


def unigram():
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")
    made.decoder = decoders.Metaspace(replacement="\u2581", prepend_scheme="always")
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    made.train_from_iterator(TEXTS * 3, trainers.UnigramTrainer(
        vocab_size=160, special_tokens=special, unk_token="<unk>", show_progress=False))
    return made, processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[(token, made.token_to_id(token)) for token in ("<s>", "</s>")])


def bytelevel():
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(TEXTS * 3, trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return made, processors.RobertaProcessing(
        ("</s>", made.token_to_id("</s>")), ("<s>", made.token_to_id("<s>")), add_prefix_space=False)


def shown(made, text, by_words, words):
    whole = made.encode(text, add_special_tokens=False)
    split = by_words.encode(words, is_pretokenized=True, add_special_tokens=False)
    return {"text": text, "words": words, "ids": whole.ids, "offsets": whole.offsets, "word_ids": split.ids,
            "words_of_ids": split.word_ids}


def main():
    expected = {}
    for name, build in (("unigram", unigram), ("bytelevel", bytelevel)):
        made, processor = build()
        made.post_processor = processor
        made.save(str(HERE / f"{name}.json"))
        # What users type is never a special token here.
        made.encode_special_tokens = True
        by_words = Tokenizer.from_str(made.to_str())
        by_words.encode_special_tokens = True
        if name == "bytelevel":
            by_words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        expected[name] = {
            "special": [made.token_to_id(token) for token in ("<s>", "</s>", "<pad>")],
            "texts": [shown(made, text, by_words, text.split()) for text in TEXTS],
        }
    (HERE / "expected.json").write_text(json.dumps(expected, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
