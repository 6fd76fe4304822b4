"""Videos decoded and packed as a mosaic and three single frames: `worker frames` against PyAV, the same frames, the same
threads. In turns, medians over several runs.

Both times begin with the file's opening and end when the four pictures lie in memory, file and code warm; neither holds
starting a process or writing pictures. PyAV is run in two ways:
  plain     decodes the video for the times of its frames, as headers do not tell them, and again for the pictures
  careful   reads the times from packets, seeks to keyframes where frames can be passed over, and ends with the last one

usage: bench_video.py WORKER VIDEOS [--runs 5] [--threads 1 2]
"""
import argparse, json, os, statistics, subprocess, sys, tempfile, time

import av

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from video_reference import decoded, pack, shown, times, upright

NAMES = ["carphone_pristine.mp4", "bikes.mp4", "bigbuckbunny.mp4"]


def opened(path, threads):
    container = av.open(path)
    stream = container.streams.video[0]
    stream.thread_type = "FRAME"
    stream.codec_context.thread_count = threads
    return container, stream


def plain(path, threads):
    starts, end = times(path)
    spread, alone = shown(starts, end, 16), shown(starts, end, 3)
    wanted, frames = set(spread + alone), {}
    container, stream = opened(path, threads)
    with container:
        for number, frame in enumerate(decoded(container)):
            if number in wanted:
                frames[number] = upright(frame)
            if number >= max(wanted):
                break
    return pack(frames, spread, alone)


def careful(path, threads):
    container, stream = opened(path, threads)
    with container:
        packets = [(p.pts, p.duration, p.is_keyframe) for p in container.demux(stream) if p.pts is not None]
    starts = sorted(pts for pts, _, _ in packets)
    end = max(packets)[0] + (max(packets)[1] or starts[-1] - starts[-2])
    keys = sorted(pts for pts, _, key in packets if key)
    spread, alone = shown(starts, end, 16), shown(starts, end, 3)
    wanted, frames = [starts[n] for n in sorted(set(spread + alone))], {}
    number = {start: n for n, start in enumerate(starts)}
    container, stream = opened(path, threads)
    with container:
        while len(frames) < len(wanted):
            ahead = wanted[len(frames)]
            container.seek(max(key for key in keys if key <= ahead), stream=stream)
            for frame in container.decode(stream):
                if frame.pts == ahead:
                    frames[number[ahead]] = upright(frame)
                    if len(frames) == len(wanted):
                        break
                    ahead = wanted[len(frames)]
                    if any(frame.pts < key <= ahead for key in keys):
                        break
    return pack(frames, spread, alone)


def ours(worker, path, threads, folder):
    timing = f"{folder}/timing.json"
    command = [worker, "frames", "--video", path, "--output", folder, "--threads", str(threads), "--timing", timing]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with open(timing) as f:
        return json.load(f)["seconds"]


def timed(work, *arguments):
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def main():
    a = argparse.ArgumentParser()
    a.add_argument("worker"); a.add_argument("videos")
    a.add_argument("--runs", type=int, default=5)
    a.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    a = a.parse_args()
    for name in NAMES:
        path = os.path.join(a.videos, name)
        for threads in a.threads:
            rows = {"ours": [], "plain": [], "careful": []}
            with tempfile.TemporaryDirectory() as folder:
                for peer in (plain, careful):
                    peer(path, threads)
                for _ in range(a.runs):
                    rows["ours"].append(ours(a.worker, path, threads, folder))
                    for peer in (plain, careful):
                        rows[peer.__name__].append(timed(peer, path, threads))
            middle = {key: statistics.median(values) for key, values in rows.items()}
            print(f"{name}, {threads} threads: ours {1000 * middle['ours']:.1f} ms", end="")
            for peer in ("plain", "careful"):
                print(f"; PyAV {peer} {1000 * middle[peer]:.1f} ms, ratio {middle[peer] / middle['ours']:.2f}", end="")
            print(flush=True)


if __name__ == "__main__":
    main()
