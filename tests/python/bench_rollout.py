"""Rollouts: tokens per second, time to the first token and peak memory of `worker generate` and of transformers'
`generate`, on the same weights, pictures, prompts, lengths, type and threads, in turns, medians over several runs.

Both clocks run from reading the first picture to the last token with the model loaded; the end token is suppressed on
both sides. Beside them the limits of the same machine in the same minutes: the largest matrix product's rate and the
memory's, and the share of the first that each side's decoder reaches.

usage: bench_rollout.py WORKER [--sizes 5M 30M 135M] [--samples 8] [--responses 6] [--tokens 128] [--runs 5] [--threads 2]
                        [--dtype bfloat16] [--cache FOLDER]
"""
import argparse, json, os, statistics, subprocess, sys, tempfile, time

PROMPT = "Please describe and rate the picture in five parts."
SIZES = {
    "5M": "--hidden 256 --layers 5 --heads 4 --kv-heads 2 --vision-depth 4 --vision-hidden 96",
    "30M": "--hidden 512 --layers 9 --heads 8 --kv-heads 2 --vision-depth 4 --vision-hidden 192",
    # SmolLM2-135M's decoder.
    "135M": "--hidden 576 --layers 30 --heads 9 --kv-heads 3 --intermediate 1536 --vocab 49152 --vision-depth 4 --vision-hidden 192",
}


def arguments():
    a = argparse.ArgumentParser()
    a.add_argument("worker")
    a.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    for name, value in dict(samples=8, responses=6, tokens=128, runs=5, threads=2).items():
        a.add_argument(f"--{name}", type=int, default=value)
    a.add_argument("--dtype", default="bfloat16")
    a.add_argument("--cache", default=None, help="keeps the models")
    a.add_argument("--peer", help=argparse.SUPPRESS)
    return a.parse_args()


def pictures(folder, count):
    import numpy
    from PIL import Image
    draws = numpy.random.default_rng(0)
    for i in range(count):
        Image.fromarray(draws.integers(0, 256, (224, 224, 3), dtype="uint8")).save(f"{folder}/{i}.png")


def peak_bytes():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith("VmHWM"))


def peer(a):
    """What a researcher runs today: every prompt repeated K times. A line in, a run, a line out."""
    import torch
    from PIL import Image
    from transformers import AutoProcessor, GenerationConfig, Qwen2_5_VLForConditionalGeneration, StoppingCriteria
    folder, model_folder = a.peer.split("|")
    torch.set_num_threads(a.threads)
    dtype = getattr(torch, a.dtype)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(model_folder, dtype=dtype).eval()
    processor = AutoProcessor.from_pretrained(model_folder)
    turn = [dict(role="user", content=[dict(type="image"), dict(type="text", text=PROMPT)])]
    text = processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    pads = processor.tokenizer.convert_tokens_to_ids(["<|image_pad|>", "<|video_pad|>", "<|vision_pad|>"])
    how = GenerationConfig(do_sample=True, temperature=1.0, top_k=50, top_p=1.0, suppress_tokens=pads,
                           min_new_tokens=a.tokens, max_new_tokens=a.tokens, eos_token_id=model.generation_config.eos_token_id,
                           pad_token_id=model.generation_config.pad_token_id)

    class First(StoppingCriteria):
        def __init__(self):
            self.at = None

        def __call__(self, ids, scores, **_):
            self.at = self.at or time.perf_counter()
            return torch.zeros(ids.shape[0], dtype=torch.bool)

    def run():
        first, start = First(), time.perf_counter()
        images = [Image.open(f"{folder}/{i}.png").convert("RGB") for i in range(a.samples) for _ in range(a.responses)]
        inputs = processor(text=[text] * len(images), images=[[i] for i in images], return_tensors="pt", padding=True)
        inputs = {k: v.to(dtype) if v.is_floating_point() else v for k, v in inputs.items()}
        with torch.no_grad():
            out = model.generate(**inputs, generation_config=how, stopping_criteria=[first])
        tokens = out[:, inputs["input_ids"].shape[1]:].numel()
        return dict(tokens=tokens, seconds=time.perf_counter() - start, first_token_seconds=first.at - start, peak_bytes=peak_bytes())

    decoder = sum(p.numel() for n, p in model.named_parameters() if "visual" not in n)
    print(json.dumps(dict(decoder=decoder, **limits(torch, dtype))), flush=True)
    for _ in sys.stdin:
        print(json.dumps(run()), flush=True)


def limits(torch, dtype):
    """Rates of the largest matrix product and of copying memory, medians of five."""
    n, x = 2048, torch.randn(2048, 2048).to(dtype)
    big = torch.zeros(1 << 28, dtype=torch.uint8)
    to = torch.empty_like(big)

    def rate(work, amount):
        work()
        times = []
        for _ in range(5):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return amount / statistics.median(times)
    return dict(matmul=rate(lambda: x @ x, 2 * n**3), copy=rate(lambda: to.copy_(big), 2 * big.numel()))


def compare(a, size, folder, cache):
    model = f"{cache}/{size}"
    if not os.path.exists(f"{model}/config.json"):
        make = [sys.executable, os.path.join(os.path.dirname(__file__), "make_tiny_model.py"), model, "--dtype", a.dtype, *SIZES[size].split()]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pictures(folder, a.samples)
    requests, out, measured = f"{folder}/requests.jsonl", f"{folder}/out.jsonl", f"{folder}/measure.json"
    with open(requests, "w") as f:
        for i in range(a.samples):
            f.write(json.dumps(dict(id=str(i), images=[f"{folder}/{i}.png"], prompt=PROMPT)) + "\n")
    numbers = dict(threads=a.threads, responses=a.responses, **{"max-new-tokens": a.tokens, "min-new-tokens": a.tokens})
    ours = [a.worker, "generate", "--model", model, "--input", requests, "--output", out, "--measure", measured,
            "--dtype", a.dtype, "--temperature", "1", "--top-k", "50", *(x for k, v in numbers.items() for x in (f"--{k}", str(v)))]
    theirs = [sys.executable, __file__, a.worker, "--peer", f"{folder}|{model}", "--dtype", a.dtype]
    for name in ("samples", "responses", "tokens", "threads"):
        theirs += [f"--{name}", str(getattr(a, name))]
    env = dict(os.environ, OMP_NUM_THREADS=str(a.threads))
    other = subprocess.Popen(theirs, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env)
    limit = json.loads(other.stdout.readline())
    runs = {"worker": [], "transformers": []}
    for turn in range(a.runs + 1):
        subprocess.run(ours, check=True, env=env, stdout=subprocess.DEVNULL)
        other.stdin.write("run\n")
        other.stdin.flush()
        pair = json.load(open(measured)), json.loads(other.stdout.readline())
        assert pair[0]["tokens"] == pair[1]["tokens"], "both must draw the same number of tokens"
        if turn > 0:                # the first warms both up
            runs["worker"].append(pair[0])
            runs["transformers"].append(pair[1])
    other.stdin.close()
    other.wait()
    report(a, size, limit, runs)


def report(a, size, limit, runs):
    middle = lambda name, key: statistics.median(r[key] for r in runs[name])
    print(f"{size}: {limit['decoder'] / 1e6:.1f} M decoder parameters, {a.samples} samples x {a.responses} responses x {a.tokens} tokens, "
          f"{a.dtype}, {a.threads} threads; limits: {limit['matmul'] / 1e9:.0f} GFLOP/s in matrix products, {limit['copy'] / 1e9:.0f} GB/s in memory")
    rate = {}
    for name in runs:
        tokens, seconds = middle(name, "tokens"), middle(name, "seconds")
        rate[name] = tokens / seconds
        share = 2 * limit["decoder"] * rate[name] / limit["matmul"]
        print(f"  {name:12} {rate[name]:8.0f} tokens/s  first token {middle(name, 'first_token_seconds') * 1e3:6.0f} ms  "
              f"peak {middle(name, 'peak_bytes') / 2**20:6.0f} MiB  {share:5.1%} of the matrix products' limit")
    first = middle("transformers", "first_token_seconds") / middle("worker", "first_token_seconds")
    print(f"  ratio        {rate['worker'] / rate['transformers']:8.2f} x tokens/s, {first:.2f} x sooner, medians of {a.runs} runs in turns", flush=True)


def main():
    a = arguments()
    if a.peer:
        return peer(a)
    with tempfile.TemporaryDirectory() as folder:
        for size in a.sizes:
            compare(a, size, folder, a.cache or folder)


if __name__ == "__main__":
    main()
