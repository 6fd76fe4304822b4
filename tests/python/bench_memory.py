"""Memory of training a 135 M-parameter model over two workers, by LoRA and in full: SmolLM2-135M's decoder with a small
vision tower (make_smollm2.py), the whole RL step by the coordinator, bf16. Peak resident memory of each worker, their sum,
and seconds a step. Fails where a sum is above the limit.

usage: bench_memory.py PROGRAMS_FOLDER [--samples 8] [--responses 6] [--tokens 128] [--steps 3] [--trained lora all] [--sharding replicate full] [--recompute blocks]
                       [--limit-gib 12] [--cache FOLDER]
"""
import argparse, json, os, statistics, subprocess, sys, tempfile, time
from bench_rollout import PROMPT, pictures

HERE = os.path.dirname(os.path.abspath(__file__))
TRAINED = {"lora": dict(trainable="lora", lora=dict(rank=16, alpha=32, dropout=0.05, targets="all-linear")), "all": dict(trainable="all")}


def arguments():
    a = argparse.ArgumentParser()
    a.add_argument("programs")
    for name, value in dict(samples=8, responses=6, tokens=128, steps=3, workers=2).items():
        a.add_argument(f"--{name}", type=int, default=value)
    a.add_argument("--sharding", nargs="+", default=["replicate", "full"])
    a.add_argument("--trained", nargs="+", default=list(TRAINED), choices=list(TRAINED))
    a.add_argument("--recompute", default="blocks", choices=["none", "blocks"])
    a.add_argument("--limit-gib", type=float, default=12)
    a.add_argument("--cache", default=os.path.expanduser("~/.cache/preresq"))
    return a.parse_args()


def model(a):
    folder = f"{a.cache}/bench-models/smollm2-135m-vl"
    if not os.path.exists(f"{folder}/model.safetensors"):
        subprocess.run([sys.executable, f"{HERE}/make_smollm2.py", folder, "--cache", f"{a.cache}/smollm2"], check=True, stdout=subprocess.DEVNULL)
    return folder


def write(a, folder, trained, sharding):
    with open(f"{folder}/train.jsonl", "w") as f:
        for i in range(a.samples):
            turns = [{"from": "human", "value": PROMPT}, {"from": "gpt", "value": 1 + i % 5}]
            f.write(json.dumps(dict(id=i, dataset_name="noise", image=[f"{i}.png"], conversations=turns)) + "\n")
    run = dict(run=dict(name="memory", seed=1, output=f"{folder}/run-{trained}-{sharding}"), model=dict(TRAINED[trained], path=model(a), dtype="bfloat16"),
               data=dict(train=[dict(name="noise", manifest=f"{folder}/train.jsonl", media=folder)]),
               rollout=dict(responses=a.responses, max_new_tokens=a.tokens), optimizer=dict(lr=1e-6, schedule="constant"),
               parallel=dict(samples_per_step=a.samples, sharding=sharding, recompute=a.recompute), checkpoint=dict(every=1000, keep=1),
               evaluation=dict(every=0), stages=[dict(name="prpo", kind="prpo", steps=a.steps)])
    json.dump(run, open(f"{folder}/recipe.yaml", "w"))
    host = dict(name="here", workers=a.workers, threads=max(1, (os.cpu_count() or 1) // a.workers))
    json.dump(dict(launcher="local", coordinator=dict(listen="127.0.0.1:0"), hosts=[host]), open(f"{folder}/hosts.yaml", "w"))
    return run["run"]["output"]


def peaks(parent, seen):
    """Peak resident bytes of the workers that `parent` has started."""
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit():
                status = dict(line.split(":", 1) for line in open(f"/proc/{entry}/status") if ":" in line)
                if int(status["PPid"]) == parent and status["Name"].strip() == "worker":
                    seen[entry] = int(status["VmHWM"].split()[0]) << 10
        except (OSError, KeyError, ValueError):
            pass                                    # it ended meanwhile


def measure(a, folder, trained, sharding):
    output = write(a, folder, trained, sharding)
    command = [f"{a.programs}/coordinator", "--nodes", f"{folder}/hosts.yaml", "--recipe", f"{folder}/recipe.yaml"]
    seen = {}
    with open(f"{folder}/log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        while process.poll() is None:
            peaks(process.pid, seen)
            time.sleep(0.05)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {process.returncode}\n{open(f'{folder}/log').read()[-3000:]}")
    assert len(seen) == a.workers, f"{len(seen)} workers were seen"
    steps = [json.loads(line)["seconds"] for line in open(f"{output}/metrics.jsonl")]
    return sorted(seen.values()), statistics.median(steps[1:] or steps)


def main():
    a = arguments()
    gib = lambda n: n / 2 ** 30
    fits = True
    print(f"{a.workers} workers, {a.samples} samples x {a.responses} responses x up to {a.tokens} tokens, bf16, recompute {a.recompute}")
    for sharding in a.sharding:
        for trained in a.trained:
            with tempfile.TemporaryDirectory() as folder:
                pictures(folder, a.samples)
                each, seconds = measure(a, folder, trained, sharding)
            fits &= gib(sum(each)) <= a.limit_gib
            shown = " + ".join(f"{gib(n):.2f}" for n in each)
            print(f"trainable {trained:4}  sharding {sharding:9}  {gib(sum(each)):5.2f} GiB over the workers ({shown})   {seconds:.1f} s a step", flush=True)
    if not fits:
        sys.exit(f"more than {a.limit_gib} GiB")


main()
