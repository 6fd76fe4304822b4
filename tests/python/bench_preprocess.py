"""Pictures per second from files to patches: `worker patches` against transformers' Qwen2VLImageProcessor on torchvision,
with Pillow's decoding, in one batch call. In turns, medians over several runs, the same files and threads.

Both times begin with the first file's opening and end when all f32 values lie in memory as the model takes them (ours: an
array a picture; theirs: one tensor): reading (warm files), decoding, converting to RGB, resizing, normalising, cutting.
Neither holds starting the process, importing, loading settings, or (ours) writing the output file.
The limit is measured in the same run: decoding alone by Pillow on as many threads, and copying as many values once.

usage: bench_preprocess.py WORKER MODEL_DIR [--runs 5] [--threads 2] [--images 32] [--format jpg] [--sizes 1024x768 ...]
MODEL_DIR's bounds are replaced by those of the published checkpoints (3136 to 12845056 pixels).
"""
import argparse, concurrent.futures, json, os, shutil, statistics, subprocess, tempfile, time

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import load_file
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

BOUNDS = dict(min_pixels=3136, max_pixels=12845056)


def arguments():
    a = argparse.ArgumentParser()
    a.add_argument("worker"); a.add_argument("model")
    for name, value in dict(runs=5, threads=2, images=32).items():
        a.add_argument(f"--{name}", type=int, default=value)
    a.add_argument("--format", choices=("jpg", "png"), default="jpg")
    a.add_argument("--sizes", nargs="+", default=["1024x768", "512x384", "224x224"])
    return a.parse_args()


def pictures(folder, size, count, suffix):
    """Like photographs: every octave of detail has half the strength of the one below, and the sensor adds noise."""
    width, height = map(int, size.split("x"))
    draws = np.random.default_rng(0)
    paths = []
    for i in range(count):
        field = draws.normal(0, 3, (height, width, 3))
        strength = 60.0
        for octave in range(2, 9):
            coarse = draws.normal(0, strength, (2**octave, 2**octave, 3)).astype("float32")
            planes = [Image.fromarray(coarse[..., c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(3)]
            field += np.stack(planes, -1) * [1.0, 0.9, 0.8]
            strength /= 2
        paths.append(f"{folder}/{size}-{i}.{suffix}")
        options = dict(quality=90) if suffix == "jpg" else {}
        Image.fromarray(np.clip(128 + field, 0, 255).astype("uint8")).save(paths[-1], **options)
    return paths


def settings(model, folder):
    """The model's files with the published bounds."""
    for name in os.listdir(model):
        if name.endswith((".json", ".jinja")) and "processor_config" not in name:
            shutil.copy(os.path.join(model, name), folder)
    with open(f"{folder}/preprocessor_config.json", "w") as f:
        json.dump(dict(BOUNDS, patch_size=14, temporal_patch_size=2, merge_size=2), f)
    return folder


def timed(work):
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def ours(a, model, paths, folder):
    out, timing = f"{folder}/patches.safetensors", f"{folder}/timing.json"
    command = [a.worker, "patches", "--model", model, "--output", out, "--timing", timing, "--threads", str(a.threads)]
    subprocess.run([*command, "--images", *paths], check=True, env=dict(os.environ, OMP_NUM_THREADS=str(a.threads)))
    with open(timing) as f:
        return json.load(f)["seconds"], out


def check(out, batch):
    """The same work was done: resampling may differ by a level."""
    mine = load_file(out)
    assert np.array_equal(mine["image_grid_thw"], batch["image_grid_thw"].numpy()), "other grids"
    difference = np.abs(mine["pixel_values"] - batch["pixel_values"].numpy())
    assert difference.max() < 0.05 and difference.mean() < 0.005, (difference.max(), difference.mean())
    return mine["pixel_values"].nbytes


def decode(path):
    Image.open(path).convert("RGB").load()


def copying(size, threads):
    """Seconds to copy so many bytes into memory that is there already."""
    source, target = (np.ones((threads, size // threads // 4), "float32") for _ in range(2))
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return timed(lambda: list(pool.map(np.copyto, target, source)))[0]


def measure(a, processor, model, size, folder):
    paths = pictures(folder, size, a.images, a.format)
    theirs = lambda: timed(lambda: processor(images=[Image.open(p) for p in paths], return_tensors="pt"))
    _, out = ours(a, model, paths, folder)
    written = check(out, theirs()[1])
    seconds = dict(ours=[], theirs=[], decoding=[], copying=[])
    with concurrent.futures.ThreadPoolExecutor(a.threads) as pool:
        for _ in range(a.runs):
            seconds["ours"].append(ours(a, model, paths, folder)[0])
            seconds["theirs"].append(theirs()[0])
            seconds["decoding"].append(timed(lambda: list(pool.map(decode, paths)))[0])
            seconds["copying"].append(copying(written, a.threads))
    m = {name: statistics.median(values) for name, values in seconds.items()}
    limit = m["decoding"] + m["copying"]
    spread = lambda name: f"{a.images / max(seconds[name]):.0f}-{a.images / min(seconds[name]):.0f}"
    kilobytes = sum(map(os.path.getsize, paths)) / a.images / 1000
    print(f"{size:>9} {a.format} {kilobytes:4.0f} kB | ours {a.images / m['ours']:6.0f}/s ({spread('ours')}) | transformers "
          f"{a.images / m['theirs']:6.0f}/s ({spread('theirs')}) | ratio {m['theirs'] / m['ours']:5.2f} | limit {a.images / limit:6.0f}/s "
          f"(decoding {a.images / m['decoding']:.0f}/s, copying {a.images / m['copying']:.0f}/s), reached {limit / m['ours']:.0%}", flush=True)
    for path in paths:
        os.remove(path)


def main():
    a = arguments()
    torch.set_num_threads(a.threads)
    processor = Qwen2VLImageProcessor(**BOUNDS)
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/model")
        model = settings(a.model, f"{folder}/model")
        print(f"{a.images} pictures a run, medians of {a.runs} runs in turns, {a.threads} threads")
        for size in a.sizes:
            measure(a, processor, model, size, folder)


main()
