"""The distribution that transformers draws each request's first token from, after all of its filters, in its order.

usage: first_token.py MODEL_DIR REQUESTS.jsonl OUT.jsonl GENERATION.json
Out: {"id", "probabilities": {token id: probability}}, tokens of probability 0 left out.
"""
import json, sys, torch
from PIL import Image
from transformers import AutoProcessor, GenerationConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

folder, requests, out, settings = sys.argv[1:]
model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
processor = AutoProcessor.from_pretrained(folder)
processor.image_processor = Qwen2VLImageProcessorPil.from_pretrained(folder)
pads = processor.tokenizer.convert_tokens_to_ids(["<|image_pad|>", "<|video_pad|>", "<|vision_pad|>"])
how = GenerationConfig(do_sample=True, max_new_tokens=1, eos_token_id=model.generation_config.eos_token_id, suppress_tokens=pads,
                       pad_token_id=model.generation_config.pad_token_id, output_scores=True, return_dict_in_generate=True,
                       **json.load(open(settings)))
with open(out, "w") as f:
    for line in open(requests):
        r = json.loads(line)
        images = [Image.open(x).convert("RGB") for x in r["images"]]
        turn = [dict(role="user", content=[*(dict(type="image") for _ in images), dict(type="text", text=r["prompt"])])]
        x = processor(text=[processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)], images=images or None, return_tensors="pt")
        with torch.no_grad():
            scores = model.generate(**x, generation_config=how).scores[0][0]
        p = scores.double().softmax(-1)
        f.write(json.dumps(dict(id=r["id"], probabilities={i: p[i].item() for i in p.nonzero()[:, 0].tolist()})) + "\n")
