"""Tokens per second of `worker generate` against transformers' `generate`, on the same weights, pictures, prompts and
lengths, in turns, medians over several runs. Both times hold everything: process start, loading, pictures, decoding.

usage: bench_generate.py WORKER MODEL_DIR [--samples 8] [--responses 6] [--tokens 64] [--runs 5] [--threads 2]
"""
import argparse, json, os, statistics, subprocess, sys, tempfile, time

PROMPT = "Please describe and rate the picture in five parts."


def arguments():
    a = argparse.ArgumentParser()
    a.add_argument("worker"); a.add_argument("model")
    for name, value in dict(samples=8, responses=6, tokens=64, runs=5, threads=2).items():
        a.add_argument(f"--{name}", type=int, default=value)
    a.add_argument("--peer", nargs=2, metavar=("FOLDER", "DRAWN"), help=argparse.SUPPRESS)
    return a.parse_args()


def pictures(folder, count):
    import numpy
    from PIL import Image
    draws = numpy.random.default_rng(0)
    for i in range(count):
        Image.fromarray(draws.integers(0, 256, (224, 224, 3), dtype="uint8")).save(f"{folder}/{i}.png")


def peer(a):
    """What a researcher runs today: every prompt repeated K times."""
    import torch
    from PIL import Image
    from transformers import AutoProcessor, GenerationConfig, Qwen2_5_VLForConditionalGeneration
    folder, drawn = a.peer
    torch.set_num_threads(a.threads)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(a.model, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(a.model)
    images = [Image.open(f"{folder}/{i}.png") for i in range(a.samples) for _ in range(a.responses)]
    turn = [dict(role="user", content=[dict(type="image"), dict(type="text", text=PROMPT)])]
    text = processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    inputs = processor(text=[text] * len(images), images=[[i] for i in images], return_tensors="pt", padding=True)
    pads = processor.tokenizer.convert_tokens_to_ids(["<|image_pad|>", "<|video_pad|>", "<|vision_pad|>"])
    how = GenerationConfig(do_sample=True, temperature=1.0, top_k=50, top_p=1.0, suppress_tokens=pads,
                           min_new_tokens=a.tokens, max_new_tokens=a.tokens, eos_token_id=model.generation_config.eos_token_id,
                           pad_token_id=model.generation_config.pad_token_id)
    with torch.no_grad():
        out = model.generate(**inputs, generation_config=how)
    with open(drawn, "w") as f:
        json.dump(out[:, inputs["input_ids"].shape[1]:].numel(), f)


def main():
    a = arguments()
    if a.peer:
        return peer(a)
    with tempfile.TemporaryDirectory() as folder:
        pictures(folder, a.samples)
        requests, out = f"{folder}/requests.jsonl", f"{folder}/out.jsonl"
        with open(requests, "w") as f:
            for i in range(a.samples):
                f.write(json.dumps(dict(id=str(i), images=[f"{folder}/{i}.png"], prompt=PROMPT)) + "\n")
        ours = [a.worker, "generate", "--model", a.model, "--input", requests, "--output", out, "--dtype", "float32",
                "--temperature", "1", "--top-k", "50", "--responses", a.responses, "--max-new-tokens", a.tokens,
                "--min-new-tokens", a.tokens, "--threads", a.threads]
        theirs = [sys.executable, __file__, a.worker, a.model, "--peer", folder, f"{folder}/drawn.json"]
        for name in ("samples", "responses", "tokens", "threads"):
            theirs += [f"--{name}", getattr(a, name)]
        env = dict(os.environ, OMP_NUM_THREADS=str(a.threads))
        seconds = {"worker": [], "transformers": []}
        for _ in range(a.runs):
            for name, command in (("worker", ours), ("transformers", theirs)):
                start = time.perf_counter()
                subprocess.run([str(c) for c in command], check=True, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                seconds[name].append(time.perf_counter() - start)
        drawn = sum(len(c["ids"]) for line in open(out) for c in json.loads(line)["completions"])
        assert drawn == json.load(open(f"{folder}/drawn.json")), "both must draw the same number of tokens"
        for name, times in seconds.items():
            print(f"{name:13} {drawn / statistics.median(times):8.0f} tokens/s, median of {a.runs} runs of {drawn} tokens")
        ratio = statistics.median(seconds["transformers"]) / statistics.median(seconds["worker"])
        print(f"ratio         {ratio:8.2f} x transformers, whole command, {a.threads} threads, f32")


main()
