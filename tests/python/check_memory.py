"""Checks that loading a checkpoint and scoring a picture holds one copy of the weights: the peak of `worker logprobs
--dtype bfloat16` against the size of a random checkpoint of a published shape.

usage: check_memory.py WORKER [--shape 3b|small] [--limit 1.3] [--beside] [--folder DIR]
  --beside   counts what lies above the peak with a tiny model: libtorch itself weighs as much as a small model
stdout: {"bytes", "peak", "peak_of_tiny", "ratio", "seconds"}; exit code 1 where ratio is above the limit.
"""
import argparse, json, os, subprocess, sys, tempfile, time
here = os.path.dirname(os.path.abspath(__file__))

def script(name, *arguments):
    return subprocess.run([sys.executable, os.path.join(here, name), *arguments], check=True, stdout=subprocess.PIPE).stdout

def peak(worker, model, requests, out):
    """Largest resident memory in bytes, and seconds."""
    began = time.monotonic()
    child = subprocess.Popen([worker, "logprobs", "--model", model, "--input", requests, "--output", out, "--dtype", "bfloat16"])
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0: sys.exit(f"check_memory: {worker} ended with {os.waitstatus_to_exitcode(status)}")
    scored = [json.loads(line) for line in open(out)]
    if not all(isinstance(p, float) and p < 0 for line in scored for p in line["logprobs"]): sys.exit(f"check_memory: no log-probabilities: {scored}")
    return usage.ru_maxrss * 1024, time.monotonic() - began

def main():
    a = argparse.ArgumentParser()
    a.add_argument("worker"); a.add_argument("--shape", default="3b"); a.add_argument("--limit", type=float, default=1.3)
    a.add_argument("--beside", action="store_true"); a.add_argument("--folder")
    a = a.parse_args()
    with tempfile.TemporaryDirectory(dir=a.folder) as folder:
        path = lambda name: os.path.join(folder, name)
        script("pictures.py", folder, "0", "336x336")
        with open(path("requests.jsonl"), "w") as f:
            json.dump(dict(id="a", images=[path("0.png")], prompt="Rate it.", completion="<answer>3.21</answer>"), f)
        script("make_tiny_model.py", path("tiny"))
        large = json.loads(script("make_large_model.py", path("large"), "--shape", a.shape))
        tiny, _ = peak(a.worker, path("tiny"), path("requests.jsonl"), path("out.jsonl"))
        most, seconds = peak(a.worker, path("large"), path("requests.jsonl"), path("out.jsonl"))
    ratio = (most - (tiny if a.beside else 0)) / large["bytes"]
    print(json.dumps(dict(bytes=large["bytes"], peak=most, peak_of_tiny=tiny, ratio=round(ratio, 3), seconds=round(seconds, 1))))
    if ratio > a.limit: sys.exit(f"check_memory: {ratio:.2f} times the checkpoint's size, expected at most {a.limit}")

main()
