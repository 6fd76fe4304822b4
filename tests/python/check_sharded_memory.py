"""Memory of a rank under `sharding: full` against the formula of docs/benchmarks.md ("Memory of a rank under `full`"), measured
through `coordinator update` on worlds of several sizes: the most memory resident in a step, less what a worker with a model
of next to nothing takes for the same sample. Fails where a world leaves the formula, or takes no less than a smaller one.

usage: check_sharded_memory.py PROGRAMS_FOLDER [--size 30M] [--workers 1 2 4] [--recompute blocks] [--dtype bfloat16] [--limit 0.15]
                               [--cache FOLDER]
"""
import argparse, sys, tempfile
from types import SimpleNamespace
from bench_rollout import SIZES, pictures
from bench_world import blocks, hosts, model_of, rollouts, update

MIB = 2 ** 20


def arguments():
    a = argparse.ArgumentParser()
    a.add_argument("programs")
    a.add_argument("--size", default="30M", choices=list(SIZES))
    a.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    a.add_argument("--recompute", default="blocks", choices=["none", "blocks"])
    a.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    a.add_argument("--limit", type=float, default=0.15)
    a.add_argument("--cache", default=None, help="keeps the models")
    return a.parse_args()


def widens(dtype):
    """Whether this processor computes bf16 weights in f32 (Qwen::fastest)."""
    cpu = open("/proc/cpuinfo").read()
    return dtype == "bfloat16" and not ("amx_bf16" in cpu or ("AuthenticAMD" in cpu and "avx512_bf16" in cpu))


def formula(sizes, workers, dtype):
    """Bytes: (slices, blocks under way)."""
    total, largest, width = sum(sizes), max(sizes), 2 if dtype == "bfloat16" else 4
    slices = (16 + (width if width < 4 else 0)) * total / workers
    gathered = 4 * width * largest
    computing = (4 + 4 if widens(dtype) else width) * largest
    sums = (4 * 4 + 3 * 4) * largest
    return slices, gathered + computing + sums


def peak(a, folder, size, workers, cache):
    model = model_of(size, cache)
    run = SimpleNamespace(programs=a.programs, workers=workers, nodes=1, rate=None, steps=3, dtype=a.dtype, recompute=a.recompute,
                          samples=1, responses=1, tokens=4, side=0)
    rollouts(run, folder, model)
    lines = update(run, folder, model, "full", hosts(run, folder))
    return max(line["metrics"]["max_peak_bytes"] for line in lines)


def main():
    a, off = arguments(), []
    with tempfile.TemporaryDirectory() as folder:
        pictures(folder, 1)
        cache = a.cache or folder
        sizes = blocks(model_of(a.size, cache))
        print(f"{a.size}: {sum(sizes) / 1e6:.2f} M parameters, the largest block {max(sizes) / 1e6:.2f} M, {a.dtype}, recompute {a.recompute}")
        before = None
        for workers in a.workers:
            beside, own = (peak(a, folder, size, workers, cache) for size in ("micro", a.size))
            slices, under_way = formula(sizes, workers, a.dtype)
            measured, expected = own - beside, slices + under_way
            ratio = measured / expected
            print(f"  {workers} workers: peak {own / MIB:6.0f} MiB, less {beside / MIB:4.0f} beside the model: {measured / MIB:6.0f} MiB; "
                  f"formula {slices / MIB:5.0f} slices + {under_way / MIB:4.0f} under way = {expected / MIB:6.0f}: {ratio:.3f}", flush=True)
            if abs(ratio - 1) > a.limit:
                off.append(f"{workers} workers take {ratio:.3f} of the formula")
            if before is not None and measured >= before:
                off.append(f"{workers} workers take no less each than fewer")
            before = measured
    if off:
        sys.exit("; ".join(off))


main()
