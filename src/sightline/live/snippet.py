"""The Python that does what a view of the live page shows."""

from __future__ import annotations

from sightline.live.question import Question


def python_of(model: str, question: Question) -> str:
    """A script that asks the same question in the same way; the pictures are named image_1 and so on."""
    images = ", ".join(f'"image_{number}.png"' for number in range(1, len(question.images) + 1))
    if question.view == "without":
        images = ""
    elif question.view == "blank":
        images = ", ".join(["Image.new('RGB', (336, 336), (128, 128, 128))"] * len(question.images))
    lines = ["import sightline as sl"]
    if question.view == "blank":
        lines.append("from PIL import Image")
    lines += [
        "",
        f"vlm = sl.load({model!r})",
        f"sample = sl.Sample(prompt={question.prompt!r}, images=({images}{',' if images else ''}))",
        "inputs = vlm.encode(sample, allow_text_only=True)",
    ]
    ask = f"print(vlm.generate(inputs, max_new_tokens={question.new_tokens}))"
    if question.method == "none":
        lines.append(ask)
    else:
        lines += [f"with sl.find_method({question.method!r}).on(vlm):", f"    {ask}"]
    return "\n".join(lines) + "\n"
