"""Encodes and decodes varied strings with Python's tokenizers: what ours is compared with.

usage: tokenizer_strings.py TOKENIZER.json OUT.jsonl [--count 10000] [--seed 0]
Out: {"text", "ids", "decoded"}; every tenth line decodes random ids instead, which seldom are whole UTF-8: {"ids", "decoded"}
"""
import argparse, json, random, unicodedata
from tokenizers import Tokenizer

SPACES = [" ", "  ", "\t", "\n", "\r\n", "\r", "\u00a0", "\u2003", "\u3000", "\u200b", "\u0085", "\v", "\f", "\n\n\n", " " * 17, "\ufeff"]
EMOJI = ["😀", "👩‍👩‍👧‍👦", "👍🏽", "🇩🇪", "🇨🇳🇺🇸", "❤️", "☺", "1️⃣", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "🫠"]
CONTRACTIONS = ["'s", "'S", "'re", "'VE", "'ll", "'d", "'ſ", "’s", "'tis", "I'm", "CAN'T"]
CODE = ["def f(x):\n    return x ** 2\n", "for (int i = 0; i < n; ++i) {\n\ta[i] += 0x1F;\n}", "<answer>\n3.21\n</answer>", "<think> sharp </think>",
        "SELECT * FROM t WHERE a <> 'b';", "\\frac{1}{2}\\sum_{i}", "https://a.b/c?d=e&f=%20#g", "{\"a\": [1, 2.50, null]}", "->::<>!=//**", "\x1b[0m\x00\x7f"]
SCRIPTS = [(0x20, 0x7E), (0xA0, 0x24F), (0x370, 0x5FF), (0x600, 0x6FF), (0x900, 0xDFF), (0xE00, 0xEFF), (0x1100, 0x11FF), (0x3040, 0x30FF), (0x4E00, 0x9FFF),
           (0xAC00, 0xD7A3), (0x2000, 0x2BFF), (0xFB00, 0xFFFD), (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF), (0x20000, 0x2A6DF), (0xE0000, 0xE007F), (0x10FF00, 0x10FFFF)]

def main():
    a = argparse.ArgumentParser()
    a.add_argument("tokenizer"); a.add_argument("out"); a.add_argument("--count", type=int, default=10000); a.add_argument("--seed", type=int, default=0)
    a = a.parse_args()
    t = Tokenizer.from_file(a.tokenizer); r = random.Random(a.seed)
    vocabulary = t.get_vocab_size(); special = [s.content for s in t.get_added_tokens_decoder().values()]
    any_scalar = lambda: chr(r.choice([r.randrange(0xD800), r.randrange(0xE000, 0x110000)]))
    script = lambda: (lambda s: "".join(chr(r.randint(*s)) for _ in range(r.randint(1, 30))))(r.choice(SCRIPTS))
    marks = lambda: r.choice("aeoAKö각Åﬁ") + "".join(chr(r.randint(0x300, 0x36F)) for _ in range(r.randint(1, 6)))
    digits = lambda: r.choice([str(r.randrange(10 ** r.randint(1, 30))), f"{r.uniform(-1e6, 1e6):.{r.randint(0, 8)}f}", "٣٤٥", "①②Ⅷ½", "1e-10"])
    word = lambda: r.choice(["image", "Quality", "sharpness", "Überschärfe", "naïve", "質", "画像", "х", "résumé", "straße", "ﷺ"])
    bytes_ = lambda: bytes(r.randrange(256) for _ in range(r.randint(1, 60))).decode(r.choice(["utf-8", "latin-1"]), "replace")
    token = lambda: r.choice([r.choice(special), r.choice(special)[:-1], "<|image_pad|" + r.choice([">", " >", "|>"])])
    pieces = [script, lambda: any_scalar() * r.randint(1, 3), lambda: "".join(any_scalar() for _ in range(r.randint(1, 20))), lambda: r.choice(SPACES) * r.randint(1, 5),
              lambda: r.choice(EMOJI), marks, lambda: unicodedata.normalize(r.choice(["NFD", "NFKD", "NFC"]), script()), digits, lambda: r.choice(CODE),
              lambda: r.choice(CONTRACTIONS), word, lambda: word() + " ", lambda: " " + word(), bytes_, token, lambda: r.choice("!?.,;:-…—()[]\"'`~@#") * r.randint(1, 8)]
    with open(a.out, "w") as out:
        for number in range(a.count):
            line = {}
            if number % 10 == 9:
                line["ids"] = [r.randrange(vocabulary) for _ in range(r.randint(1, 40))]
            else:
                length = 20000 if number % 1000 == 0 else r.choice([0, 1, 1, 2, 3, 5, 8, 13, 40])
                line["text"] = r.choice(["word" * 25000, " " * 100000, "ab1" * 30000]) if number % 2000 == 1 else "".join(r.choice(pieces)() for _ in range(length))
                line["ids"] = t.encode(line["text"], add_special_tokens=False).ids
            line["decoded"] = t.decode(line["ids"], skip_special_tokens=True)
            out.write(json.dumps(line) + "\n")

main()
