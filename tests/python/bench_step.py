"""A step of reinforcement learning, rollout to commit, and of it the update, against TRL's GRPOTrainer on the same weights,
pictures, responses, lengths, type and cores, in turns, medians.

The step is the coordinator's with its journal, its wire and its rewards; TRL's reward here costs nothing. The end token is
one that is never drawn, on both sides. The update is `worker update` on recorded responses, gradients to stepped weights.

usage: bench_step.py PROGRAMS_FOLDER [--sizes 5M 30M] [--samples 8] [--responses 6] [--tokens 128] [--steps 5] [--workers 2] [--threads 2]
                     [--beta 0] [--runs 2] [--cache FOLDER]
"""
import argparse, json, os, shutil, statistics, subprocess, sys, tempfile
from bench_rollout import PROMPT, SIZES, limits, pictures

HERE = os.path.dirname(os.path.abspath(__file__))


def arguments():
    a = argparse.ArgumentParser()
    a.add_argument("programs")
    a.add_argument("--sizes", nargs="+", default=["5M", "30M"], choices=list(SIZES))
    for name, value in dict(samples=8, responses=6, tokens=128, steps=5, workers=2, threads=2, runs=2).items():
        a.add_argument(f"--{name}", type=int, default=value)
    a.add_argument("--beta", type=float, default=0.0)
    a.add_argument("--cache", default=None, help="keeps the models")
    return a.parse_args()


def quiet(command, **more):
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)
    if done.returncode != 0:
        sys.exit(f"{command[0]}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def endless(size, folder, cache):
    """The size's model, with an end token that is never drawn."""
    kept, model = f"{cache}/{size}", f"{folder}/model"
    if not os.path.exists(f"{kept}/config.json"):
        quiet([sys.executable, f"{HERE}/make_tiny_model.py", kept, "--dtype", "bfloat16", *SIZES[size].split()])
    shutil.copytree(kept, model, dirs_exist_ok=True)
    config = json.load(open(f"{model}/config.json"))
    path = f"{model}/generation_config.json"
    json.dump(dict(json.load(open(path)), eos_token_id=config["image_token_id"]), open(path, "w"))
    return model


def recipe(a, folder, model):
    with open(f"{folder}/train.jsonl", "w") as f:
        for i in range(a.samples):
            turns = [{"from": "human", "value": PROMPT}, {"from": "gpt", "value": 1 + i % 5}]
            f.write(json.dumps(dict(id=i, dataset_name="noise", image=[f"{i}.png"], conversations=turns)) + "\n")
    run = dict(run=dict(name="bench", seed=1, output=f"{folder}/run"), model=dict(path=model, dtype="bfloat16"),
               data=dict(train=[dict(name="noise", manifest=f"{folder}/train.jsonl", media=folder)]),
               rollout=dict(responses=a.responses, max_new_tokens=a.tokens, top_k=50), reward=dict(kind="prpo"), objective=dict(beta=a.beta),
               optimizer=dict(lr=1e-6, schedule="constant"), parallel=dict(samples_per_step=a.samples), checkpoint=dict(every=1000, keep=1),
               evaluation=dict(every=0), stages=[dict(name="prpo", kind="prpo", steps=a.steps + 1)])
    json.dump(run, open(f"{folder}/recipe.yaml", "w"))
    host = dict(name="here", workers=a.workers, threads=max(1, a.threads // a.workers))
    json.dump(dict(launcher="local", coordinator=dict(listen="127.0.0.1:0"), hosts=[host]), open(f"{folder}/hosts.yaml", "w"))


def our_steps(a, folder):
    shutil.rmtree(f"{folder}/run", ignore_errors=True)
    quiet([f"{a.programs}/coordinator", "--nodes", f"{folder}/hosts.yaml", "--recipe", f"{folder}/recipe.yaml"])
    steps = [json.loads(line) for line in open(f"{folder}/run/metrics.jsonl")]
    assert all(s["metrics"]["response_tokens"] == a.tokens for s in steps), "a response ended early"
    return [s["seconds"] for s in steps][1:]


def our_updates(a, folder, model):
    requests, drawn, rollouts = (f"{folder}/{name}.jsonl" for name in ("requests", "drawn", "rollouts"))
    asked = [dict(id=str(i), images=[f"{folder}/{i}.png"], prompt=PROMPT) for i in range(a.samples)]
    with open(requests, "w") as f:
        f.writelines(json.dumps(r) + "\n" for r in asked)
    quiet([f"{a.programs}/worker", "generate", "--model", model, "--input", requests, "--output", drawn, "--dtype", "bfloat16",
           "--responses", a.responses, "--max-new-tokens", a.tokens, "--threads", a.threads])
    with open(rollouts, "w") as f:
        for r, line in zip(asked, open(drawn)):
            for k, c in enumerate(json.loads(line)["completions"]):
                f.write(json.dumps(dict(r, completion_ids=c["ids"], advantage=(k - (a.responses - 1) / 2) / a.responses)) + "\n")
    shutil.rmtree(f"{folder}/updated", ignore_errors=True)
    quiet([f"{a.programs}/worker", "update", "--model", model, "--rollouts", rollouts, "--output", f"{folder}/updated", "--steps", a.steps + 1,
           "--measure", f"{folder}/measure.json", "--threads", a.threads, "--set", f"objective.beta={a.beta}", "--set", "optimizer.schedule=constant"])
    measured = json.load(open(f"{folder}/measure.json"))
    return measured["seconds"][1:], measured["tokens"], measured["peak_bytes"]


def theirs(a, folder, model):
    out = f"{folder}/trl.json"
    command = [sys.executable, f"{HERE}/peer_trl.py", model, folder, out, "--prompt", PROMPT, "--beta", a.beta]
    for name in ("samples", "responses", "tokens", "steps", "threads"):
        command += [f"--{name}", getattr(a, name)]
    quiet(command, env=dict(os.environ, OMP_NUM_THREADS=str(a.threads)))
    return json.load(open(out))


def compare(a, size, cache):
    import torch
    from safetensors import safe_open
    torch.set_num_threads(a.threads)
    with tempfile.TemporaryDirectory() as folder:
        pictures(folder, a.samples)
        model = endless(size, folder, cache)
        recipe(a, folder, model)
        seconds = {name: [] for name in ("step", "update", "their step", "their update")}
        for _ in range(a.runs):
            seconds["step"] += our_steps(a, folder)
            updates, tokens, peak = our_updates(a, folder, model)
            seconds["update"] += updates
            peer = theirs(a, folder, model)
            seconds["their step"] += peer["step"]
            seconds["their update"] += peer["update"]
        limit = limits(torch, torch.bfloat16)["matmul"]
        with safe_open(f"{model}/model.safetensors", "pt") as f:
            weights = sum(f.get_tensor(n).numel() for n in f.keys() if "visual" not in n)
    m = {name: statistics.median(values) for name, values in seconds.items()}
    used = 6 * weights * tokens / m["update"] / limit
    print(f"{size}: {weights / 1e6:.1f} M decoder parameters, {a.samples} samples x {a.responses} responses x {a.tokens} tokens, bfloat16, beta {a.beta}, "
          f"{a.threads} cores; medians of {len(seconds['step'])} steps; limit {limit / 1e9:.0f} GFLOP/s in matrix products")
    print(f"  update  {m['update']:6.2f} s  TRL {m['their update']:6.2f} s  ratio {m['their update'] / m['update']:5.2f}  {tokens / m['update']:6.0f} tokens/s  "
          f"{used:5.1%} of the limit (6 operations a weight and token)  peak {peak / 2**20:.0f} MiB, TRL's whole step {peer['peak_bytes'] / 2**20:.0f} MiB")
    print(f"  step    {m['step']:6.2f} s  TRL {m['their step']:6.2f} s  ratio {m['their step'] / m['step']:5.2f}  ({a.workers} workers)", flush=True)


def main():
    a = arguments()
    with tempfile.TemporaryDirectory() as own:
        for size in a.sizes:
            compare(a, size, a.cache or own)


if __name__ == "__main__":
    main()
