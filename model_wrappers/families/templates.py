"""Conversation templates and tokenisation around the image placeholder, as LLaVA-style models were trained.

Sources: NVlabs/EAGLE at fef95f1, eagle/conversation.py (templates) and eagle/mm_utils.py:201-214 (tokenisation).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from redundancy_eval.errors import SetupError

IMAGE = "<image>"
IMAGE_ID = -200

_ASSISTANT_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


@dataclass(frozen=True)
class Template:
    """A conversation template: what stands before, around and after the turns, and how images stand in them.

    Images put in front of a text are joined by `between_images` and ended by `after_images`; `numbered` ones are
    named `<image 1>`, ... where there are several. With `placeholder` = (markup, token) the prompt is tokenised as a
    whole, with the markup for each image, and the token marks its place; else the pieces between images are
    tokenised on their own. `strip` cuts blanks around turns and prompt. With `leading` images stand before all text,
    after the token that begins it, and no tag is left in the text. With `inside` the system's text stands in the first
    turn, after the user's mark. `silence` stands for an empty answer.
    """

    system: str
    user: str
    assistant: str
    after_system: str
    after_user: str
    after_assistant: str
    between_images: str = " "
    after_images: str = "\n"
    numbered: bool = False
    placeholder: tuple[str, str] | None = None
    strip: bool = False
    leading: bool = False
    inside: bool = False
    silence: str = ""

    def render(self, turns: list[str]) -> str:
        """Prompt text for turns user, assistant, ..., user; the assistant's next turn is left open."""
        system = self.system + self.after_system
        text = self.user + system if self.inside else system
        for index, turn in enumerate(turns):
            turn = turn.strip() if self.strip else turn
            if index % 2 == 0:
                text += ("" if self.inside and index == 0 else self.user) + turn + self.after_user
            else:
                text += self.assistant + (turn or self.silence) + self.after_assistant
        text += self.assistant.rstrip(" ")
        return text.strip() if self.strip else text


# TRI-ML/prismatic-vlms at 874c5bb, prismatic/models/backbones/llm/prompting/: one for each builder.
_PRISMATIC = {
    "prismatic_pure": Template("", "In: ", "Out: ", "", "\n", "</s>"),
    # the opening tag has one closing bracket, as in the original (llama2_chat_prompter.py:25)
    "prismatic_llama2": Template(
        "<<SYS>\nYou are a helpful language and vision assistant. You are able to understand the visual content that "
        "the user provides, and assist the user with a variety of tasks using natural language.\n<</SYS>>\n\n",
        "[INST] ",
        "",
        "",
        " [/INST] ",
        "</s>",
        inside=True,
    ),
    "prismatic_vicuna": Template(_ASSISTANT_SYSTEM, "USER: ", "ASSISTANT: ", " ", " ", "</s>"),
    "prismatic_mistral": Template("", "[INST] ", "", "", " [/INST] ", "</s>"),
    "prismatic_phi": Template("<|endoftext|>", "Input: ", "Output: ", "", "\n", "\n<|endoftext|>"),
}
TEMPLATES = {
    "vicuna_v1": Template(_ASSISTANT_SYSTEM, "USER: ", "ASSISTANT: ", " ", " ", "</s>"),
    "llama3": Template(
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n" + _ASSISTANT_SYSTEM,
        "<|start_header_id|>user<|end_header_id|>\n\n",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|>",
        "<|eot_id|>",
        "<|eot_id|>",
    ),
    # cambrian-mllm/cambrian at 539ffc3, cambrian/conversation.py:100-123, 520-530; no newlines after the headers
    "llama_3": Template(
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>"
        "You are Cambrian, a highly intelligent multimodal AI trained by NYU Vision X. \n"
        "    As a multimodal AI, you have the ability to process and analyze images. Whenever an image is present in "
        "the conversation, very carefully examine it and consider its content when formulating your response.\n"
        "    You should give concise responses to very simple questions, but provide thorough responses to more "
        "complex and open-ended questions. ",
        "<|start_header_id|>user<|end_header_id|>",
        "<|start_header_id|>assistant<|end_header_id|>",
        "<|eot_id|>",
        "<|eot_id|>",
        "<|eot_id|>",
    ),
    # The same at lines 164-172, 552-560. Not confirmed by a recording, and the release's tokenizer was not at hand.
    "phi3": Template(
        "<|system|>\nYou are a helpful AI assistant.",
        "\n<|user|>\n",
        "\n<|assistant|>\n",
        "<|end|>",
        "<|end|>",
        "<|end|>",
    ),
    # dvlab-research/MGM at 769820c, mgm/conversation.py:298-310, where it is called llama_3. The begin-of-text token is
    # the tokenizer's; the assistant's role is called `system`, as in training.
    "mgm_llama_3": Template(
        "<|start_header_id|>system<|end_header_id|>\n\n"
        "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
        "provides, and assist the user with a variety of tasks using natural language.",
        "<|start_header_id|>user<|end_header_id|>\n\n",
        "<|start_header_id|>system<|end_header_id|>\n\n",
        "<|eot_id|>",
        "<|eot_id|>",
        "<|eot_id|>",
    ),
    # tsb0601/MMVP at 7635005, LLaVA/llava/conversation.py
    "llava_v1": Template(
        _ASSISTANT_SYSTEM.replace("curious user", "curious human").replace("the user's", "the human's"),
        "USER: ",
        "ASSISTANT: ",
        " ",
        " ",
        "</s>",
    ),
    # deepseek-ai/DeepSeek-VL at 681bffb, deepseek_vl/utils/conversation.py:80-90, 285-288
    "deepseek": Template(
        "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
        "provides, and assist the user with a variety of tasks using natural language.",
        "User: ",
        "Assistant: ",
        "\n\n",
        "\n\n",
        "<｜end▁of▁sentence｜>",
        between_images="",
        after_images="",
        placeholder=("<image_placeholder>", "<image_placeholder>"),
        strip=True,
    ),
    # deepseek-ai/DeepSeek-OCR on the hub, modeling_deepseekocr.py:741 and conversation.py:229; nothing between turns
    "plain": Template("", "", "", "", "", "", strip=True),
    # NVlabs/Eagle at 783f656, Eagle2_5/eaglevl/conversation.py:189-196, 1113-1128
    "qwen2-chat": Template(
        "<|im_start|>system\nYou are a helpful assistant.",
        "<|im_start|>user\n",
        "<|im_start|>assistant\n",
        "<|im_end|>\n",
        "<|im_end|>\n",
        "<|im_end|>\n",
        between_images="\n",
        numbered=True,
        placeholder=("<img><IMG_CONTEXT></img>", "<IMG_CONTEXT>"),
    ),
    **{name: replace(own, strip=True, leading=True, silence=" ") for name, own in _PRISMATIC.items()},
    # openvla/openvla at c8f03f4, README.md and modeling_prismatic.py:508: a blank ends the prompt, which becomes the
    # empty token that predict_action appends.
    "openvla": Template("", "In: ", "", "", "\nOut: ", "</s>", leading=True),
    "openvla_v01": Template(_ASSISTANT_SYSTEM, "USER: ", "", " ", " ASSISTANT: ", "</s>", leading=True),
}


def template(name: str) -> Template:
    """Look a template up by name.

    Raises:
        SetupError: no such template.
    """
    if name not in TEMPLATES:
        raise SetupError(f"conv_template must be one of {', '.join(TEMPLATES)}; not {name!r}")
    return TEMPLATES[name]


def as_words(text: str) -> str:
    """A text whose image tags are words, not places."""
    return text.replace(IMAGE, IMAGE.strip("<>"))


def place_images(text: str, images: int, template: Template) -> tuple[str, bool]:
    """Text with one placeholder for each image, and whether its own placeholders had to be given up.

    A text without placeholders gets them in front, as the template says. Where a text names an image twice or not at
    all (some MMMU questions do), which image belongs where is not known: all go in front, in their order, and the text
    keeps the word `image`.
    """
    for markup in template.placeholder or ():
        text = text.replace(markup, markup.strip("<>"))  # the model's own markup in a question is just words
    found = text.count(IMAGE)
    if template.leading:
        fits = found in (0, images)
        return IMAGE * images + (text.replace(IMAGE, "") if fits else as_words(text)).strip(), not fits
    if found == images:
        return text, False
    tags = [f"<image {n}>{IMAGE}" if template.numbered and images > 1 else IMAGE for n in range(1, images + 1)]
    front = template.between_images.join(tags) + template.after_images * bool(images)
    return front + as_words(text), found > 0


def tokenize(tokenizer: Any, prompt: str, template: Template | None = None) -> list[int]:
    """Token ids of a prompt with IMAGE_ID at each placeholder.

    Without a placeholder token, the pieces around an image are tokenised on their own, as the original code's slow
    tokenizer does where there is one (slow_tokens.read); the beginning-of-sequence token that the tokenizer puts before
    each piece is kept on the first only.
    """
    if template is not None and template.placeholder is not None:
        markup, token = template.placeholder
        mark = tokenizer.convert_tokens_to_ids(token)
        return [IMAGE_ID if i == mark else i for i in tokenizer(prompt.replace(IMAGE, markup)).input_ids]
    if template is not None and template.leading:
        first, *rest = tokenizer(prompt.replace(IMAGE, "")).input_ids
        return [first, *[IMAGE_ID] * prompt.count(IMAGE), *rest]
    ids: list[int] = []
    slow = getattr(tokenizer, "piece_ids", None)
    for index, piece in enumerate(prompt.split(IMAGE)):
        tokens = slow(piece) if slow else tokenizer(piece).input_ids
        starts_with_bos = bool(tokens) and tokens[0] == tokenizer.bos_token_id
        if index:
            ids.append(IMAGE_ID)
            tokens = tokens[1:] if starts_with_bos else tokens
        ids.extend(tokens)
    return ids


def text_of(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of an answer's token ids."""
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()


def template_for(tokenizer: Any) -> str:
    """Name of the template of a LLaVA-style checkpoint, as its tokenizer's special tokens show."""
    return "llama3" if "<|start_header_id|>" in tokenizer.get_vocab() else "vicuna_v1"
