"""Conversation templates and tokenisation around the image placeholder, as LLaVA-style models were trained.

Sources: NVlabs/EAGLE at fef95f1, eagle/conversation.py (templates) and eagle/mm_utils.py:201-214 (tokenisation).
"""

from dataclasses import dataclass
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
    tokenised on their own. `strip` cuts blanks around turns and prompt.
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

    def render(self, turns: list[str]) -> str:
        """Prompt text for turns user, assistant, ..., user; the assistant's next turn is left open."""
        text = self.system + self.after_system
        for index, turn in enumerate(turns):
            role, after = (self.user, self.after_user) if index % 2 == 0 else (self.assistant, self.after_assistant)
            text += role + (turn.strip() if self.strip else turn) + after
        text += self.assistant.rstrip(" ")
        return text.strip() if self.strip else text


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
}


def template(name: str) -> Template:
    """Look a template up by name.

    Raises:
        SetupError: no such template.
    """
    if name not in TEMPLATES:
        raise SetupError(f"conv_template must be one of {', '.join(TEMPLATES)}; not {name!r}")
    return TEMPLATES[name]


def place_images(text: str, images: int, template: Template) -> tuple[str, bool]:
    """Text with one placeholder for each image, and whether its own placeholders had to be given up.

    A text without placeholders gets them in front, as the template says. Where a text names an image twice or not at
    all (some MMMU questions do), which image belongs where is not known: all go in front, in their order, and the text
    keeps the word `image`.
    """
    found = text.count(IMAGE)
    if found == images:
        return text, False
    tags = [f"<image {n}>{IMAGE}" if template.numbered and images > 1 else IMAGE for n in range(1, images + 1)]
    front = template.between_images.join(tags) + template.after_images * bool(images)
    return front + text.replace(IMAGE, "image"), found > 0


def tokenize(tokenizer: Any, prompt: str, template: Template | None = None) -> list[int]:
    """Token ids of a prompt with IMAGE_ID at each placeholder.

    Without a placeholder token, the pieces around an image are tokenised on their own; the beginning-of-sequence token
    that the tokenizer puts before each piece is kept on the first only.
    """
    if template is not None and template.placeholder is not None:
        markup, token = template.placeholder
        mark = tokenizer.convert_tokens_to_ids(token)
        return [IMAGE_ID if i == mark else i for i in tokenizer(prompt.replace(IMAGE, markup)).input_ids]
    ids: list[int] = []
    for index, piece in enumerate(prompt.split(IMAGE)):
        tokens = tokenizer(piece).input_ids
        starts_with_bos = bool(tokens) and tokens[0] == tokenizer.bos_token_id
        if index:
            ids.append(IMAGE_ID)
            tokens = tokens[1:] if starts_with_bos else tokens
        ids.extend(tokens)
    return ids


def template_for(tokenizer: Any) -> str:
    """Name of the template of a LLaVA-style checkpoint, told from its tokenizer's special tokens."""
    return "llama3" if "<|start_header_id|>" in tokenizer.get_vocab() else "vicuna_v1"
