"""Writes a checkpoint of a given shape with random bf16 weights, tensor by tensor, so that it may be larger than memory:
flat config.json, the Hub's names, shards with an index, and the tokenizer and processor of make_tiny_model.py.

usage: make_large_model.py OUT_DIR [--shape 3b|small] [--shard-bytes 2000000000] [--seed 0]
stdout: {"parameters", "bytes", "shards"}
"""
import argparse, json, os, subprocess, sys
import numpy as np, torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

SHAPES = {
    "3b": (dict(hidden_size=2048, intermediate_size=11008, num_hidden_layers=36, num_attention_heads=16, num_key_value_heads=2, vocab_size=151936),
           dict(depth=32, hidden_size=1280, intermediate_size=3420, num_heads=16, fullatt_block_indexes=[7, 15, 23, 31])),
    "small": (dict(hidden_size=1024, intermediate_size=2816, num_hidden_layers=7, num_attention_heads=8, num_key_value_heads=2, vocab_size=8192),
              dict(depth=4, hidden_size=512, intermediate_size=1368, num_heads=8, fullatt_block_indexes=[3])),
}

def names_and_shapes(config):
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**config))
    for name, weight in model.named_parameters():
        yield name.replace("model.language_model.", "model.").replace("model.visual.", "visual."), list(weight.shape)

def write(file, shape, name, noise):
    """The weight's values, of a size that keeps activations near 1: matrices N(0, 1/inputs), norms 1, biases 0."""
    left = int(np.prod(shape)); block = noise
    if len(shape) > 1: block = noise * (left // shape[0]) ** -0.5
    else: block = np.full_like(noise, 0.0 if name.endswith("bias") else 1.0)
    bits = (block.view("<u4") >> 16).astype("<u2")
    while left > 0:
        bits[:left].tofile(file); left -= min(left, len(bits))

def main():
    a = argparse.ArgumentParser()
    a.add_argument("out"); a.add_argument("--shape", choices=SHAPES, default="3b")
    a.add_argument("--shard-bytes", type=int, default=2_000_000_000); a.add_argument("--seed", type=int, default=0)
    a = a.parse_args()
    tiny = os.path.join(os.path.dirname(os.path.abspath(__file__)), "make_tiny_model.py")
    subprocess.run([sys.executable, tiny, a.out, "--flat", "--shards", "1"], check=True, stdout=subprocess.DEVNULL)
    path = lambda name: os.path.join(a.out, name)
    os.remove(path("model.safetensors"))
    config = json.load(open(path("config.json"))); text, vision = SHAPES[a.shape]
    config.update(text, tie_word_embeddings=True, torch_dtype="bfloat16", rope_scaling=dict(type="mrope", mrope_section=[16, 24, 24]))
    config["vision_config"].update(vision, out_hidden_size=text["hidden_size"])
    json.dump(config, open(path("config.json"), "w"), indent=2)

    shards, filled = [[]], 0
    for name, shape in sorted(names_and_shapes(config)):
        size = 2 * int(np.prod(shape))
        if filled and filled + size > a.shard_bytes: shards.append([]); filled = 0
        shards[-1].append((name, shape, size)); filled += size
    noise = np.random.default_rng(a.seed).standard_normal(1 << 20).astype("<f4"); index = {}
    for number, shard in enumerate(shards):
        name, header, at = f"model-{number + 1:05}-of-{len(shards):05}.safetensors", dict(__metadata__=dict(format="pt")), 0
        for weight, shape, size in shard:
            header[weight] = dict(dtype="BF16", shape=shape, data_offsets=[at, at + size]); at += size; index[weight] = name
        header = json.dumps(header).encode(); header += b" " * (-len(header) % 8)
        with open(path(name), "wb") as f:
            f.write(len(header).to_bytes(8, "little") + header)
            for weight, shape, _ in shard: write(f, shape, weight, noise)
    total = sum(size for shard in shards for _, _, size in shard)
    json.dump(dict(metadata=dict(total_size=total), weight_map=index), open(path("model.safetensors.index.json"), "w"))
    print(json.dumps(dict(parameters=total // 2, bytes=total, shards=len(shards))))

main()
