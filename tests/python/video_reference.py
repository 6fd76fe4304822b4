"""A video's mosaic and single frames by PyAV, as docs/method.md section 6 says: the reference of tests/tests/video.rs.

usage: video_reference.py pictures VIDEO OUT       writes NAME_0.png to NAME_3.png and prints a JSON line
       video_reference.py make SOURCE FOLDER       writes hard videos that are made of the video SOURCE
       video_reference.py clip OUT SIZE FRAMES RATE       writes a video of a moving test pattern
       video_reference.py sample ABOUT FPS         prints the frames that transformers takes of a video of which ABOUT is
                                                   the JSON line of `worker frames --native`
"""
import bisect
import json
import os
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
from PIL import Image

Image.MAX_IMAGE_PIXELS = None


def shown(starts, end, count):
    """Numbers of the frames on screen in the middles of `count` equal parts."""
    first = starts[0]
    middles = [first + (end - first) * Fraction(2 * part + 1, 2 * count) for part in range(count)]
    return [max(bisect.bisect_right(starts, middle) - 1, 0) for middle in middles]


def decoded(container):
    """All frames that can be decoded, in order."""
    for packet in container.demux(container.streams.video[0]):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            continue


def times(path):
    """When decoded frames appear, rising, and when the last one ends: seconds as fractions."""
    starts, last = [], None
    with av.open(path) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate or 25
        for number, frame in enumerate(decoded(container)):
            if frame.pts is None:
                start, length = Fraction(number) / rate, 1 / Fraction(rate)
            else:
                start, length = frame.pts * frame.time_base, (frame.duration or 0) * frame.time_base
            starts.append(start)
            last = length
    starts = sorted(set(starts))
    if not last and len(starts) > 1:
        last = starts[-1] - starts[-2]
    return starts, starts[-1] + (last or 0)


def upright(frame):
    pixels = frame.to_ndarray(format="rgb24")
    return np.rot90(pixels, round(frame.rotation / 90) % 4)


def pack(frames, spread, alone):
    """The mosaic and the single frames, from the frames by number."""
    rows = [np.concatenate([frames[n] for n in spread[4 * row : 4 * row + 4]], 1) for row in range(4)]
    return [np.concatenate(rows, 0)] + [frames[n] for n in alone]


def pictures(path):
    starts, end = times(path)
    spread, alone = shown(starts, end, 16), shown(starts, end, 3)
    wanted, frames = set(spread + alone), {}
    with av.open(path) as container:
        for number, frame in enumerate(decoded(container)):
            if number in wanted:
                frames[number] = upright(frame)
            if number >= max(wanted):
                break
    about = {
        "frames": len(starts),
        "seconds": float(end - starts[0]),
        "mosaic": [float(starts[n] - starts[0]) for n in spread],
        "singles": [float(starts[n] - starts[0]) for n in alone],
    }
    return pack(frames, spread, alone), about


def make(source, folder):
    import imageio_ffmpeg

    program = imageio_ffmpeg.get_ffmpeg_exe()
    x264 = ["-an", "-c:v", "libx264", "-preset", "veryfast", "-crf", "20"]

    def ffmpeg(name, *arguments, before=(), seconds=4, pipe=False):
        path = os.path.join(folder, name)
        command = [program, "-y", "-loglevel", "error", *before, "-t", str(seconds), "-i", source, *arguments]
        if pipe:
            # Nothing can be written back into a header that has left.
            with open(path, "wb") as out:
                subprocess.run([*command, "-"], stdout=out, check=True)
        else:
            subprocess.run([*command, path], check=True)
        return path

    quick, slow = "N/(25*TB)", "(40/25+(N-40)/4)/TB"
    ffmpeg("variable_rate.mp4", "-vf", f"setpts='if(lt(N,40),{quick},{slow})'", "-fps_mode", "vfr", *x264)
    plain = ffmpeg("plain.mp4", *x264, "-movflags", "+faststart", seconds=10)
    for degrees in (90, 180, 270):
        turned = os.path.join(folder, f"rotated_{degrees}.mp4")
        command = [program, "-y", "-loglevel", "error", "-display_rotation", str(degrees), "-i", plain, "-c", "copy"]
        subprocess.run([*command, turned], check=True)
    ffmpeg("ten_bit.mp4", *x264, "-pix_fmt", "yuv420p10le")
    ffmpeg("ten_bit_hevc.mkv", "-an", "-c:v", "libx265", "-x265-params", "log-level=error", "-pix_fmt", "yuv420p10le")
    ffmpeg("odd_size.webm", "-an", "-vf", "scale=175:143", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8")
    ffmpeg("odd_444.mp4", "-vf", "scale=175:143", *x264, "-pix_fmt", "yuv444p")
    ffmpeg("full_range_709.mp4", "-vf", "scale=out_range=full:out_color_matrix=bt709", *x264, "-color_range", "pc", "-colorspace", "bt709")
    ffmpeg("no_duration.mkv", *x264, "-f", "matroska", pipe=True)
    ffmpeg("no_times.h264", *x264, "-bf", "0")
    ffmpeg("open_gop.ts", *x264, "-x264-params", "open-gop=1:keyint=24:bframes=3:b-pyramid=normal")
    ffmpeg("one_frame.mp4", *x264, "-frames:v", "1")
    ffmpeg("late_start.mp4", *x264, before=["-ss", "3.3"], seconds=3)
    ffmpeg("packed.avi", "-an", "-c:v", "mpeg4", "-bf", "2", "-q:v", "3")
    sound = ["-f", "lavfi", "-i", "sine=duration=2", "-c:a", "aac"]
    subprocess.run([program, "-y", "-loglevel", "error", *sound, os.path.join(folder, "audio_only.mp4")], check=True)
    whole = open(plain, "rb").read()
    late = open(ffmpeg("index_last.mp4", *x264), "rb").read()
    for name, content in [("truncated.mp4", whole), ("truncated_index.mp4", late)]:
        with open(os.path.join(folder, name), "wb") as out:
            out.write(content[: len(content) * 6 // 10])
    os.remove(os.path.join(folder, "index_last.mp4"))


def clip(out, size, frames, rate):
    import imageio_ffmpeg

    pattern = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}", "-frames:v", frames]
    codec = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p"]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *pattern, *codec, out], check=True)


def sample(about, fps):
    from transformers import Qwen2VLVideoProcessor
    from transformers.video_utils import VideoMetadata

    about = json.loads(about)
    # As a container says it; a length in floating point would make 19.99 frames of 20.
    rate = round(about["frames"] / about["seconds"], 6)
    metadata = VideoMetadata(total_num_frames=about["frames"], fps=rate)
    print(Qwen2VLVideoProcessor().sample_frames(metadata, fps=float(fps)).tolist())


def main():
    command = {"make": make, "clip": clip, "sample": sample}.get(sys.argv[1])
    if command:
        return command(*sys.argv[2:])
    path, out = sys.argv[2:4]
    made, about = pictures(path)
    stem = os.path.splitext(os.path.basename(path))[0]
    for number, picture in enumerate(made):
        Image.fromarray(picture).save(os.path.join(out, f"{stem}_{number}.png"), compress_level=1)
    print(json.dumps(about))


if __name__ == "__main__":
    main()
