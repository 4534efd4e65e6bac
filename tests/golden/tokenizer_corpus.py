"""The tokenizer corpus and its golden files: ids from the Hugging Face reference implementation.

    python tokenizer_corpus.py corpus data/corpus.txt
    python tokenizer_corpus.py golden MODEL.gguf data/corpus.txt data/tokenizer-NAME.json [--upstream tokenizer.json]

`corpus` writes 1,000 lines, always the same: English, Chinese and other scripts, code, emoji, runs of whitespace,
control characters, numbers, texts that look like special tokens. Each line is a JSON string.

`golden` encodes every line with `tokenizers` (Rust). The tokenizer is not read by this project's code: vocabulary and
merges come from the GGUF file through gguf-py, the rules (pre-tokenizer, normaliser) are written here by hand as the
model's upstream tokenizer.json has them. With `--upstream` the real tokenizer.json is loaded too and every line compared;
the golden file says how many lines differed (it must be 0). Needs: tokenizers, gguf.
"""
import argparse
import hashlib
import json
import random

WORDS = (
    "the of and to in is that it was for on with as his they be at one have this from or had by hot but some what there we can "
    "out other were all your when up use word how said an each she which do their time if will way about many then them would "
    "write like so these her long make thing see him two has look more day could go come did my sound no most number who over "
    "lighthouse keeper storm harbour engine matrix tokenizer quantization throughput asynchronous Mississippi don't we're I'll "
    "they've she'd it's y'all o'clock re-entrant state-of-the-art e.g. i.e. U.S.A. Ph.D. naïve café coöperate Zürich résumé"
).split()
CHINESE = "春天来了西湖边的柳树发芽白堤上游人如织断桥残雪已经融化我们今天讨论大语言模型的推理速度以及前缀缓存内存带宽注意力机制，。！？；：「」《》（）、"
OTHER = [
    "Привет, как дела? Это тест токенизатора.", "Γειά σου Κόσμε, τι κάνεις;", "مرحبا بالعالم كيف حالك", "שלום עולם מה שלומך",
    "こんにちは世界、トークナイザーのテストです。", "안녕하세요 세계, 토크나이저 시험입니다.", "नमस्ते दुनिया, यह एक परीक्षण है।", "สวัสดีชาวโลก ทดสอบ",
    "Xin chào thế giới, đây là một bài kiểm tra.", "İstanbul'da ılık bir gün ŞĞÜ", "Ελληνικά ΣΊΣΥΦΟΣ", "ქართული ენა", "Հայերեն լեզու",
    "ﬁne ﬂow ½ ⅓ Ⅷ ² ³ ¼ ①②③ ㊗ ℡ ™ Å Å Ω Ω", "e\u0301 a\u0308 n\u0303 o\u0302\u0301 (decomposed) \u00e9 \u00e4 \u00f1",
]
CODE = [
    "def quicksort(items: list[int]) -> list[int]:", "    return [x for x in items if x < pivot]", "\tif (a != b && c >= d) { return; }",
    "for (let i = 0; i < n; ++i) sum += a[i] * b[i];", "#include <immintrin.h>", "const f = async (x: Record<string, unknown>) => await g(x ?? {});",
    "SELECT id, COUNT(*) FROM users WHERE name LIKE '%O''Brien%' GROUP BY id;", "            deeply_nested.call(arg1,arg2)[0]['key']",
    "fn main() -> Result<(), Box<dyn Error>> {", "}\r\n\r\n\r\n}", "<div class=\"a b\">&nbsp;&lt;</div>", "x = 0xFF_FF ^ 0b1010 | 1e-9 % 3.14159",
    "git commit -m 'fix: don''t crash' && git push --force-with-lease", "/* comment */ // another\n\t\treturn !ok;", "%s\\n\\t\\\"%05.2f\\\"\\u00e9",
    "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Hangzhou\", \"n\": [1,2,3]}}", "\\begin{equation} \\frac{a}{b} \\end{equation}",
]
EMOJI = ["😀", "🎉🎉🎉", "👨‍👩‍👧‍👦", "👍🏽", "🇩🇪🇨🇳", "❤️", "🤷‍♀️", "✅", "🧑🏿‍🚀", "☃", "🏴󠁧󠁢󠁳󠁣󠁴󠁿"]
SPECIAL = [
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_start|>user\n", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>",
    "<repo_name>", "<file_sep>", "<|im_end", "|im_end|>", "<|IM_END|>", "< |im_end|>", "<s>", "</s>", "<|vision_start|>", "<empty_output>",
    "[INST]", "<think>", "</think>", "<|eot_id|>", "<|box_end|>", "<unk>", "[PAD151646]", "<|object_ref_start|>", "<jupyter_code>",
]
SPACES = [" ", "  ", "   ", "    ", "        ", "\t", "\t\t", "\n", "\n\n", "\n\n\n", "\r\n", "\r", " \n", "\n ", " \t ", "\u00a0", "\u3000", "\u2003", "\u200b", "\u2028", "\u0085", "\ufeff", "\u1680", "\x0b", "\x0c"]
CONTROL = ["\x00", "\x01", "\x07", "\x08", "\x1b[31m", "\x1c", "\x1f", "\x7f", "\u0080", "\u009f", "\u200d", "\u202e", "\ufffd", "\ue000", "\U0010ffff", "\u0300"]


def corpus():
    rng = random.Random(20261122)

    def english(n):
        words = [rng.choice(WORDS) for _ in range(n)]
        if rng.random() < 0.5:
            words[0] = words[0].capitalize()
        if rng.random() < 0.2:
            words[-1] = words[-1].upper()
        return " ".join(words) + rng.choice(["", ".", "?", "!", "...", ";", "\n"])

    def chinese(n):
        return "".join(rng.choice(CHINESE) for _ in range(n))

    def number():
        return rng.choice([
            str(rng.randrange(10 ** rng.randrange(1, 14))), f"{rng.random() * 1000:.4f}", f"{rng.randrange(1, 13)}:{rng.randrange(60):02d}",
            f"2026-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}", f"{rng.randrange(1, 999)},{rng.randrange(1000):03d}.00", f"v{rng.randrange(9)}.{rng.randrange(20)}",
            "١٢٣٤", "१२३", "１２３", "3rd", "x2y3", "1e10", f"${rng.randrange(500)}", f"{rng.randrange(100)}%", "Ⅻ", "½",
        ])

    def spaces():
        return "".join(rng.choice(SPACES) for _ in range(rng.randrange(1, 6)))

    parts = [
        lambda: english(rng.randrange(2, 9)), lambda: chinese(rng.randrange(2, 14)), lambda: rng.choice(CODE), lambda: rng.choice(EMOJI),
        spaces, lambda: rng.choice(CONTROL), number, lambda: rng.choice(SPECIAL), lambda: rng.choice(OTHER),
    ]
    lines = ["", " ", "  ", "\n", "a", "'", "''", "'s", "'S", " 's", "'LL x", "ſ", "don'T", "\u0130", "ß", "a" * 300, " " * 200, "\n" * 60, "ab" * 100, "。" * 80]
    lines += OTHER + CODE + EMOJI + SPECIAL + SPACES + CONTROL
    while len(lines) < 1000:
        kind = len(lines) % 10
        if kind < 4:  # one sort of text
            lines.append(parts[rng.randrange(len(parts))]() + parts[rng.choice([0, 1, 2, 6])]())
        elif kind < 9:  # a mixture, joined with and without spaces
            lines.append(rng.choice(["", " "]).join(rng.choice(parts)() for _ in range(rng.randrange(2, 6))))
        else:  # random code points from everywhere but the surrogates
            points = [rng.choice([rng.randrange(0x20, 0x7F), rng.randrange(0xA0, 0x2000), rng.randrange(0x2000, 0xD800), rng.randrange(0xE000, 0x20000)]) for _ in range(rng.randrange(3, 20))]
            lines.append("".join(map(chr, points)))
    return lines


def gguf_fields(path):
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    return {key: field.contents() for key, field in fields.items() if key.startswith("tokenizer.")}


def reference(path):
    """A Rust tokenizer with the file's vocabulary and the upstream rules."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    fields = gguf_fields(path)
    tokens = fields["tokenizer.ggml.tokens"]
    merges = []
    for merge in fields["tokenizer.ggml.merges"]:
        cut = merge.index(" ", 1)
        merges.append((merge[:cut], merge[cut + 1 :]))
    tok = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges, fuse_unk=False, byte_fallback=False))
    pre = fields["tokenizer.ggml.pre"]
    if pre == "smollm":
        tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    elif pre == "qwen2":
        pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        tok.normalizer = normalizers.NFC()
        tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    else:
        raise SystemExit(f"no upstream rules for {pre}")
    tok.decoder = decoders.ByteLevel()
    types = fields["tokenizer.ggml.token_type"]
    tok.add_special_tokens([AddedToken(t, normalized=False, special=True) for t, kind in zip(tokens, types) if kind == 3])
    tok.add_tokens([AddedToken(t, normalized=False, special=False) for t, kind in zip(tokens, types) if kind == 4])
    return tok, fields


def digest(ids):
    return hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["corpus", "golden"])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--upstream")
    args = parser.parse_args()
    if args.what == "corpus":
        with open(args.files[0], "w", encoding="ascii", newline="\n") as out:
            out.writelines(json.dumps(line) + "\n" for line in corpus())
        return
    model, corpus_file, out_file = args.files
    lines = [json.loads(line) for line in open(corpus_file, encoding="ascii")]
    tok, fields = reference(model)
    ids = [tok.encode(line, add_special_tokens=False).ids for line in lines]
    result = {
        "model": fields["tokenizer.ggml.pre"],
        "vocabSize": len(fields["tokenizer.ggml.tokens"]),
        "lines": len(lines),
        "tokens": sum(map(len, ids)),
        "sha256": digest([i for line in ids for i in line]),
        "counts": [len(line) for line in ids],
        # The first 12 hex digits of each line's hash say which line differs; the total says that none does.
        "hashes": [digest(line)[:12] for line in ids],
        # Decoded text differs from the line where the tokenizer normalises.
        "decodedHashes": [hashlib.sha256(tok.decode(line, skip_special_tokens=False).encode()).hexdigest()[:12] for line in ids],
    }
    if args.upstream:
        from tokenizers import Tokenizer

        upstream = Tokenizer.from_file(args.upstream)
        differing = [i for i, line in enumerate(lines) if upstream.encode(line, add_special_tokens=False).ids != ids[i]]
        for i in differing[:20]:
            print("differs from upstream:", i, json.dumps(lines[i]))
        result["linesDifferingFromUpstream"] = len(differing)
    with open(out_file, "w", encoding="ascii", newline="\n") as out:
        json.dump(result, out, separators=(",", ":"))
        out.write("\n")
    print({key: value for key, value in result.items() if not isinstance(value, list)})


main()
