"""Optimizer steps over a world of workers under each sharding, by `coordinator update` on the same recorded rollouts, in
turns, medians: seconds a step, bytes sent a step against theory (docs/benchmarks.md), the most memory resident.

With --rate every worker is a host of its own behind a link of that rate (tests/link/link.sh, root); then a step is also
held to the larger of its compute (the same step on an open link) and its communication (what a rank sent, at that rate).

usage: bench_world.py PROGRAMS_FOLDER [--sizes 5M] [--shardings replicate full …] [--workers 2] [--rate 100mbit]
                      [--samples 8] [--responses 6] [--tokens 128] [--steps 4] [--runs 2] [--recompute none] [--dtype bfloat16]
                      [--nodes 1] [--json FILE] [--cache FOLDER]
"""
import argparse, glob, json, os, random, shutil, statistics, subprocess, sys, tempfile
from bench_rollout import PROMPT, SIZES, pictures

HERE = os.path.dirname(os.path.abspath(__file__))
LINK = os.path.join(HERE, "..", "link", "link.sh")
PORT = 7077
MICRO = "--hidden 64 --layers 2 --vision-depth 2"


def arguments():
    a = argparse.ArgumentParser()
    a.add_argument("programs")
    a.add_argument("--sizes", nargs="+", default=["5M"], choices=["micro", *SIZES])
    a.add_argument("--shardings", nargs="+", default=["replicate", "optimizer", "full", "hybrid"])
    for name, value in dict(samples=8, responses=6, tokens=128, steps=4, workers=2, runs=2, nodes=1, side=224).items():
        a.add_argument(f"--{name}", type=int, default=value)
    a.add_argument("--rate", default=None)
    a.add_argument("--recompute", default="none")
    a.add_argument("--dtype", default="bfloat16")
    a.add_argument("--json", default=None, help="writes the numbers")
    a.add_argument("--cache", default=None, help="keeps the models")
    return a.parse_args()


def quiet(command, **more):
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)
    if done.returncode != 0:
        sys.exit(f"{command}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-3000:]}")
    return done.stdout


def link(*words):
    return quiet([LINK, *words]).strip()


def model_of(size, cache):
    kept = f"{cache}/{size}"
    if not os.path.exists(f"{kept}/config.json"):
        shape = MICRO if size == "micro" else SIZES[size]
        quiet([sys.executable, f"{HERE}/make_tiny_model.py", kept, "--dtype", "bfloat16", *shape.split()])
    return kept


def parameters(model):
    """Weights by block: (all, those of the tied embedding, those of the last layer and norm)."""
    from safetensors import safe_open
    config = json.load(open(f"{model}/config.json"))
    text = config.get("text_config", config)
    tied = config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))
    total = embedding = kept = 0
    for path in glob.glob(f"{model}/*.safetensors"):
        with safe_open(path, "pt") as f:
            for name in f.keys():
                n = f.get_tensor(name).numel()
                total += n
                embedding += n if tied and "embed_tokens" in name else 0
                last = f"layers.{text['num_hidden_layers'] - 1}."
                kept += n if last in name or ("visual" not in name and name.endswith(".norm.weight")) else 0
    return total, embedding, kept


def blocks(model):
    """Parameters of each block as they are gathered and reduced (crates/train/src/blocks.rs)."""
    from safetensors import safe_open
    sizes = {}
    for path in glob.glob(f"{model}/*.safetensors"):
        with safe_open(path, "pt") as f:
            for name in f.keys():
                words = [w for w in name.split(".") if w not in ("model", "language_model")]
                block = ".".join(words[:3 if words[1] == "blocks" else 2])
                sizes[block] = sizes.get(block, 0) + f.get_tensor(name).numel()
    return list(sizes.values())


def theory(sharding, weights, ranks, sets, width):
    """Bytes that a rank sends a step of one micro-batch; `sets` are the nodes that hold copies."""
    total, embedding, kept = weights
    part = lambda n: (n - 1) / n
    full = lambda n: part(n) * (4 * total + width * (2 * total + embedding - kept))
    return dict(replicate=lambda: 2 * part(ranks) * 4 * total,
                optimizer=lambda: part(ranks) * (4 + width) * total,
                full=lambda: full(ranks),
                hybrid=lambda: full(ranks // sets) + 2 * part(sets) * 4 * total / (ranks // sets))[sharding]()


def rollouts(a, folder, model):
    path, draw = f"{folder}/rollouts.jsonl", random.Random(1)
    with open(path, "w") as f:
        for i in range(a.samples):
            for k in range(a.responses):
                ids = [draw.randrange(400) for _ in range(a.tokens)]
                images = [f"{folder}/{i}.png"] if a.side else []
                f.write(json.dumps(dict(id=str(i), images=images, prompt=PROMPT if a.side else "Rate.", completion_ids=ids,
                                        advantage=(k - (a.responses - 1) / 2) / max(a.responses, 1))) + "\n")
    return path


def hosts(a, folder):
    cores = max(1, (os.cpu_count() or 1) // a.workers)
    if a.rate:
        each = [dict(name=f"n{r + 1}", address=f"10.77.0.{11 + r}", workers=1, threads=cores) for r in range(a.workers)]
        where = dict(launcher="external", coordinator=dict(listen=f"10.77.0.1:{PORT}"), hosts=each)
    else:
        share = a.workers // a.nodes
        each = [dict(name=f"n{n + 1}", workers=share, threads=cores) for n in range(a.nodes)]
        where = dict(launcher="local", coordinator=dict(listen="127.0.0.1:0"), hosts=each)
    json.dump(where, open(f"{folder}/hosts.yaml", "w"))
    return cores


def update(a, folder, model, sharding, cores):
    """The lines of `coordinator update`, the first step left out: it loads and warms up."""
    shutil.rmtree(f"{folder}/out", ignore_errors=True)
    command = [f"{a.programs}/coordinator", "update", "--nodes", f"{folder}/hosts.yaml", "--rollouts", f"{folder}/rollouts.jsonl",
               "--output", f"{folder}/out", "--model", model, "--steps", a.steps + 1, "--set", f"model.dtype={a.dtype}",
               "--set", f"parallel.sharding={sharding}", "--set", "objective.beta=0", "--set", "optimizer.schedule=constant",
               "--set", f"parallel.recompute={a.recompute}", "--set", "parallel.token_budget=1000000"]
    workers = []
    if a.rate:
        command = [LINK, "exec", "ctl", *command]
        for r in range(a.workers):
            worker = [LINK, "exec", f"n{r + 1}", f"{a.programs}/worker", "--rank", str(r), "--coordinator", f"10.77.0.1:{PORT}",
                      "--address", f"10.77.0.{11 + r}", "--host", f"n{r + 1}", "--threads", str(cores)]
            log = open(f"{folder}/worker-{r}.log", "w")
            workers.append(subprocess.Popen(worker, stdout=log, stderr=log, env=dict(os.environ, OMP_NUM_THREADS=str(cores))))
    try:
        lines = [json.loads(line) for line in quiet(command).splitlines()]
    finally:
        for w in workers:
            w.wait()
    return lines[1:-1]


def median(lines, of):
    return statistics.median(of(line) for line in lines)


def measure(a, folder, model, sharding, cores):
    lines = update(a, folder, model, sharding, cores)
    metric = lambda name: median(lines, lambda l: l["metrics"].get(name, 0.0))
    sent = sum(metric(f"sent_{kind}") for kind in ("all_reduce", "all_gather", "reduce_scatter")) / a.workers
    return dict(seconds=[l["seconds"] for l in lines], sent=sent, wire=metric("sent_on_the_wire") / a.workers, across=metric("sent_across_nodes") / a.workers,
                waited=metric("max_wait_seconds"), silent=metric("max_silent_seconds"), peak=max(l["metrics"]["max_peak_bytes"] for l in lines))


def rate_bytes(rate):
    number, unit = rate.rstrip("abcdefghijklmnopqrstuvwxyz"), rate.lstrip("0123456789.")
    return float(number) * dict(mbit=1e6, gbit=1e9, kbit=1e3)[unit] / 8


def compare(a, size, cache):
    model, found = model_of(size, cache), {}
    with tempfile.TemporaryDirectory() as folder:
        pictures(folder, a.samples)
        rollouts(a, folder, model)
        cores = hosts(a, folder)
        for _ in range(a.runs):
            for sharding in a.shardings:
                for rate in (["off", a.rate] if a.rate else [None]):
                    if rate:
                        for r in range(a.workers):
                            link("rate", f"n{r + 1}", rate)
                    one = measure(a, folder, model, sharding, cores)
                    into = found.setdefault(sharding, {}).setdefault(rate or "here", dict(one, seconds=[]))
                    into["seconds"] += one["seconds"]
    weights = parameters(model)
    nodes = a.workers if a.rate else a.nodes
    width = 2 if a.dtype == "bfloat16" else 4
    print(f"{size}: {weights[0] / 1e6:.2f} M parameters, {a.samples} samples x {a.responses} responses x {a.tokens} tokens, {a.dtype}, recompute {a.recompute}, "
          f"{a.workers} workers on {nodes} nodes, {cores} threads each; medians of {a.runs * a.steps} steps")
    rows = []
    for sharding, by_rate in found.items():
        one = by_rate.get("here") or by_rate["off"]
        seconds = statistics.median(one["seconds"])
        expected = theory(sharding, weights, a.workers, nodes, width)
        row = dict(sharding=sharding, all={rate: one["seconds"] for rate, one in by_rate.items()}, seconds=seconds, sent=one["sent"], wire=one["wire"], theory=expected, peak=one["peak"])
        text = (f"  {sharding:10} {seconds:7.3f} s  sent {one['sent'] / 1e6:8.2f} MB a rank, {one['sent'] / expected if expected else 1:5.3f} of theory, "
                f"{one['wire'] / 1e6:8.2f} MB on the wire  waited {one['waited']:6.3f} s  peak {one['peak'] / 2**20:6.0f} MiB")
        if sharding == "hybrid" and nodes > 1:
            between = 2 * (nodes - 1) / nodes * 4 * weights[0] / (a.workers // nodes)
            row.update(across=one["across"])
            text += f"  across nodes {one['across'] / 1e6:.2f} MB, {one['across'] / between:5.3f} of theory"
        if "replicate" in found:
            base = found["replicate"].get("here") or found["replicate"]["off"]
            row["to_replicate"] = seconds / statistics.median(base["seconds"])
            text += f"  {row['to_replicate']:5.2f} of replicate"
        if a.rate:
            held = statistics.median(by_rate[a.rate]["seconds"])
            communication = one["sent"] / rate_bytes(a.rate)
            # What sums all its gradients after its forward pass cannot be faster than both, one after the other.
            bound = max(seconds, communication + (one["silent"] if sharding == "replicate" else 0))
            row.update(held=held, communication=communication, bound=bound, ratio=held / max(seconds, communication))
            text += f"\n             at {a.rate}: {held:7.3f} s, {by_rate[a.rate]['waited']:.3f} of them waiting; compute {seconds:.3f}, communication {communication:.3f}: {row['ratio']:.3f} of the larger, {held / bound:.3f} of what the order of a step allows ({bound:.3f})"
        print(text, flush=True)
        rows.append(row)
    return dict(size=size, parameters=weights[0], workers=a.workers, rows=rows)


def main():
    a = arguments()
    if a.rate:
        link("up", a.workers)
    try:
        with tempfile.TemporaryDirectory() as own:
            all = [compare(a, size, a.cache or own) for size in a.sizes]
    finally:
        if a.rate:
            link("down")
    if a.json:
        json.dump(all, open(a.json, "w"))


if __name__ == "__main__":
    main()
