"""Train the demo checkpoint from scratch: four small encoders, a small Llama, 2.2M parameters, on a CPU.

    python examples/train_demo.py --out demo_training

Images and questions are made on the fly from the training split of the demo benchmark (redundancy_eval.tasks.demo):
several questions are asked about each image in one pass, each seeing only the image and itself. All encoders are
always on; no mask is ever shown to the model, so what a mask does to it is not trained in.

The run is resumable: started again with the same --out it goes on. The rate is constant until the last
--decay-steps. Every --save-minutes the state is saved; at the end (or with --export alone) the checkpoint is written
in the released Eagle format to OUT/checkpoint.
"""

import argparse
import json
import time
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from redundancy_eval.model_wrappers.encoders.pixels import CLIP_MEAN, CLIP_STD
from redundancy_eval.model_wrappers.families import templates
from redundancy_eval.model_wrappers.families.eagle import model as eagle
from redundancy_eval.tasks.demo import scenes

TEMPLATE = templates.TEMPLATES["vicuna_v1"]
TOWERS = "clip-48;convnext-96;pix2struct-96;det-96"
CONFIG = {
    "architectures": ["EagleLlamaForCausalLM"],
    "model_type": "eagle_llama",
    "mm_vision_tower": TOWERS,
    "mm_hidden_size": 96 + 128 + 96 + 96,
    "mm_projector_type": "mlp2x_gelu",
    "mm_patch_merge_type": "flat",
    "image_aspect_ratio": "pad",
    "image_size": scenes.SIZE,
    "grid_size": 6,
    "encoder_configs": {
        "clip-48": dict(
            input_size=48, patch_size=8, hidden_size=96, intermediate_size=256, num_hidden_layers=3,
            num_attention_heads=3,
        ),
        "convnext-96": dict(input_size=96, patch_size=2, depths=[1, 1, 2, 1], dims=[24, 48, 96, 128]),
        "pix2struct-96": dict(
            input_size=96, max_patches=36, output_grid=6, hidden_size=96, d_ff=192, d_kv=32, num_hidden_layers=3,
            num_attention_heads=3, seq_len=8,
        ),
        "det-96": dict(
            input_size=96, patch_size=8, window_size=6, embed_dim=96, depth=3, num_heads=3, window_block_indexes=[0, 1],
            pretrain_img_size=96, pt_hw_seq_len=12,
        ),
    },
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 512,
    "max_position_embeddings": 512,
    "tokenizer_model_max_length": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}  # fmt: skip


# Shares of the categories among the training images: more of what is slow to learn.
SHARES = {"ocr": 3, "general": 3, "chart": 2, "vision_centric": 2, "knowledge": 1}


def config_without(encoder: str | None) -> dict:
    """The demo's config without an encoder, which a release would not have either: no column, no weights."""
    if encoder is None:
        return CONFIG
    names = dict(zip(("clip", "convnext", "pix2struct", "eva02"), TOWERS.split(";"), strict=True))
    towers = [tower for name, tower in names.items() if name != encoder]
    channels = {"clip": 96, "convnext": 128, "pix2struct": 96, "eva02": 96}[encoder]
    return {
        **CONFIG,
        "mm_vision_tower": ";".join(towers),
        "mm_hidden_size": CONFIG["mm_hidden_size"] - channels,
        "encoder_configs": {tower: CONFIG["encoder_configs"][tower] for tower in towers},
    }


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer whose merges come from the words of the demo."""
    rng, lines = Random(0), []
    for category in scenes.CATEGORIES:
        for _ in range(400):
            scene = scenes.make_scene(category, rng, test=False)
            for question in scenes.ask(category, scene, rng):
                options, letter = scenes.as_choice(question, rng)
                answer = question.answer if category != "ocr" else letter
                options = options if category != "ocr" else []
                lines.append(TEMPLATE.render([f"\n{scenes.prompt(question.text, options)}", answer]))
    lines += [f" {letter}" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"] * 50
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(token, special=True) for token in ("<pad>", "<s>", "</s>")]
    trainer = trainers.BpeTrainer(
        vocab_size=CONFIG["vocab_size"],
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        model_max_length=CONFIG["tokenizer_model_max_length"], clean_up_tokenization_spaces=False,
    )  # fmt: skip


class Samples(torch.utils.data.IterableDataset):
    """Endless batches of (pixels, ids, labels, segment, position); all made from a seed."""

    def __init__(self, tokenizer, batch: int, seed: int):
        self.tokenizer, self.batch, self.seed = tokenizer, batch, seed
        before, after = TEMPLATE.render([templates.IMAGE]).split(templates.IMAGE)
        self.prefix, self.after, self.cache = tokenizer(before).input_ids, after, {}

    def words(self, text: str) -> list[int]:
        """Token ids without the leading <s>; remembered, since few strings recur often."""
        if text not in self.cache:
            if len(self.cache) > 100_000:
                self.cache.clear()
            self.cache[text] = self.tokenizer(text).input_ids[1:]
        return self.cache[text]

    def question_ids(self, prompt: str, answer: str) -> tuple[list[int], list[int]]:
        """Ids of a question after the image, and of its answer, as generation meets them."""
        return self.words(f"\n{prompt}{self.after}"), [*self.words(f" {answer}"), CONFIG["eos_token_id"]]

    def sample(self, category: str, rng: Random) -> tuple[torch.Tensor, list[tuple[list[int], list[int]]]]:
        """One image and its questions."""
        scene = scenes.make_scene(category, rng, test=False)
        asked = scenes.ask(category, scene, rng)
        # Every question openly but one, which is asked as multiple choice (short rows, little padding).
        asked = (asked * 2)[: max(len(asked), 3)]
        choice, out = rng.randrange(len(asked)), []
        for index, question in enumerate(asked):
            if index == choice:
                options, letter = scenes.as_choice(question, rng, wrong=rng.randint(1, 3))
                out.append(self.question_ids(scenes.prompt(question.text, options), letter))
            else:
                out.append(self.question_ids(scenes.prompt(question.text, None), question.answer))
        return torch.from_numpy(scenes.draw(scene)), out

    def collate(self, items):
        """Pack the questions of each image after one prefix; images (n, S, S, 3) uint8, the rest (n, length)."""
        offset = len(self.prefix)
        rows = []
        for _, questions in items:
            ids, labels, segment, position = [], [], [], []
            for number, (question, answer) in enumerate(questions, 1):
                ids += question + answer
                labels += [-100] * len(question) + answer
                segment += [number] * (len(question) + len(answer))
                position += range(offset + 36, offset + 36 + len(question) + len(answer))
            rows.append((ids, labels, segment, position))
        length = max(len(row[0]) for row in rows)
        padded = [
            [list(part) + [fill] * (length - len(part)) for part, fill in zip(row, (0, -100, -1, 0), strict=True)]
            for row in rows
        ]
        tensors = [torch.tensor(column) for column in zip(*padded, strict=True)]
        return (torch.stack([image for image, _ in items]), *tensors)

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        torch.set_num_threads(1)
        rng = Random(f"{self.seed}-{worker.id if worker else 0}")
        while True:
            categories = rng.choices(list(SHARES), weights=list(SHARES.values()), k=self.batch)
            yield self.collate([self.sample(category, rng) for category in categories])


def forward(model: eagle.Eagle, prefix: torch.Tensor, batch) -> torch.Tensor:
    """Logits (n, length, vocabulary) at the packed questions' positions."""
    images, ids, _, segment, position = batch
    mean, std = (torch.tensor(v) for v in (CLIP_MEAN, CLIP_STD))
    pixels = ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()
    visual = model.mm_projector(model.concatenate(model.encode({"shared": pixels}, model.encoder_names)))
    embed, n = model.language_model.get_input_embeddings(), len(images)
    head = torch.cat([embed(prefix).expand(n, -1, -1), visual.float()], dim=1)
    p, length = head.shape[1], ids.shape[1]
    total = p + length
    seg = torch.cat([torch.zeros(n, p, dtype=torch.long), segment], dim=1)
    allowed = (seg[:, None, :] == 0) | (seg[:, None, :] == seg[:, :, None])
    allowed &= torch.ones(total, total, dtype=torch.bool).tril()
    positions = torch.cat([torch.arange(p).expand(n, -1), position], dim=1)
    hidden = model.language_model.model(
        inputs_embeds=torch.cat([head, embed(ids)], dim=1), attention_mask=allowed[:, None], position_ids=positions
    ).last_hidden_state
    return model.language_model.lm_head(hidden[:, p - 1 : -1]), p


def answer_logits(model, prefix, batch):
    """(logits, labels) at the answer tokens. The first token of each question is predicted by nobody."""
    logits, _ = forward(model, prefix, batch)
    labels = batch[2]
    wanted = labels != -100
    return logits[wanted], labels[wanted]


@torch.no_grad()
def evaluate(model, prefix, samples: Samples, docs: list[dict]) -> dict[str, float]:
    """Exact-match accuracy of greedy answers per category on the test documents."""
    model.eval()
    hits: dict[str, list[bool]] = {}
    for start in range(0, len(docs), 64):
        part = docs[start : start + 64]
        items = [
            (torch.from_numpy(scenes.draw(json.loads(d["scene"]))), [samples.question_ids(d["prompt"], d["answer"])])
            for d in part
        ]
        batch = samples.collate(items)
        logits, _ = forward(model, prefix, batch)
        right = (logits.argmax(-1) == batch[2]) | (batch[2] == -100)
        for doc, ok in zip(part, right.all(dim=1).tolist(), strict=True):
            hits.setdefault(doc["category"], []).append(ok)
    model.train()
    return {category: sum(h) / len(h) for category, h in hits.items()}


def export(model: eagle.Eagle, config: dict, tokenizer, folder: Path) -> None:
    """Write the checkpoint in the released format."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {model.release(k): v.detach().clone().contiguous() for k, v in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    ids = {k: CONFIG[k] for k in ("bos_token_id", "eos_token_id", "pad_token_id")}
    (folder / "generation_config.json").write_text(json.dumps(ids, indent=1) + "\n")
    tokenizer.save_pretrained(folder)


def make_optimizers(model: eagle.Eagle) -> list[torch.optim.Optimizer]:
    """Muon for the weight matrices inside the networks, AdamW for embeddings, convolutions, norms and biases."""
    tables = ("embed_tokens", "lm_head", "row_embedder", "column_embedder", "position_embedding")
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and not any(table in name for table in tables)]
    chosen = {id(p) for p in matrices}
    rest = [p for _, p in named if id(p) not in chosen]
    muon = torch.optim.Muon(matrices, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.0)]


def main() -> None:
    """Train, resume or export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--steps", type=int, default=4500, help="optimiser steps in all")
    parser.add_argument("--decay-steps", type=int, default=2500, help="the last steps, in which the rate falls to 0")
    parser.add_argument("--batch", type=int, default=32, help="images a step")
    parser.add_argument("--matrix-rate", type=float, default=2e-3, help="peak learning rate of the matrices (Muon)")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate of the rest (AdamW)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--without", choices=["clip", "convnext", "pix2struct", "eva02"], help="train a model that has no such encoder"
    )
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--save-minutes", type=float, default=10)
    parser.add_argument("--export", action="store_true", help="only write OUT/checkpoint from the saved state")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer()
    config = config_without(args.without)
    model = eagle.Eagle(config)
    for name, parameter in model.named_parameters():
        if name.endswith(".gamma"):  # timm starts ConvNeXt's layer scale at 1e-6, for networks of a hundred layers
            torch.nn.init.constant_(parameter, 0.5)
        elif name.startswith("language_model") and parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.05)
    optimizers = make_optimizers(model)
    state_file, step, seconds = args.out / "state.pt", 0, 0.0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved_state in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved_state)
        step, seconds = state["step"], state["seconds"]
    if args.export:
        export(model, config, tokenizer, args.out / "checkpoint")
        return
    samples = Samples(tokenizer, args.batch, seed=args.seed + step)
    prefix = torch.tensor(samples.prefix)
    docs = [json.loads(line) for path in sorted(Path(scenes.__file__).parent.glob("*.jsonl")) for line in path.open()]
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(docs)} test questions", flush=True)
    loader = iter(torch.utils.data.DataLoader(samples, batch_size=None, num_workers=1, prefetch_factor=8))
    saved = started = time.time()
    losses: list[float] = []
    while step < args.steps:
        share = min(1.0, (step + 1) / 300, max(0.0, (args.steps - step) / args.decay_steps))
        for optimizer, peak in zip(optimizers, (args.matrix_rate, args.rate), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * share
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            logits, labels = answer_logits(model, prefix, next(loader))
        loss = F.cross_entropy(logits.float(), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        losses.append(loss.item())
        if step % 50 == 0:
            spent = seconds + time.time() - started
            print(
                f"step {step} loss {sum(losses) / len(losses):.3f} rate x{share:.2f} {spent / 60:.1f} min", flush=True
            )
            losses.clear()
        done = step == args.steps
        if done or step % 1000 == 0:
            shown = {k: f"{100 * v:.0f}" for k, v in evaluate(model, prefix, samples, docs).items()}
            print(f"step {step} test accuracy {shown}", flush=True)
        if done or time.time() - saved > 60 * args.save_minutes:
            saved = time.time()
            states = [optimizer.state_dict() for optimizer in optimizers]
            state = {"model": model.state_dict(), "optimizers": states, "step": step}
            torch.save({**state, "seconds": seconds + saved - started}, args.out / "state.tmp")
            (args.out / "state.tmp").replace(state_file)
    model.eval()
    export(model, config, tokenizer, args.out / "checkpoint")


if __name__ == "__main__":
    main()
