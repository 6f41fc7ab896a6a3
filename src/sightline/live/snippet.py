"""The Python that does what a view of the live page shows."""

from __future__ import annotations

from sightline.live.question import LiveQuestion

GREY = "Image.new('RGB', (336, 336), (128, 128, 128))"


def python_of(model: str, question: LiveQuestion) -> str:
    """A script that asks the same question in the same way; the pictures are files named image_1.png and so on."""
    images = _images(question)
    lines = ["import sightline as sl"]
    if question.view == "blank" and images:
        lines.append("from PIL import Image")
    if question.turns:
        lines.append("from sightline.data.messages import Part, Turn")
    lines += ["", f"vlm = sl.load({model!r})"]
    if question.turns:
        lines += ["turns = ["]
        pictures = "".join(f'Part("image", {image}), ' for image in images)
        prompts = [*(words for words, _ in question.turns), question.prompt]
        for place, words in enumerate(prompts):
            first = pictures if place == 0 else ""
            lines.append(f'    Turn("user", ({first}Part("text", {words!r}),)),')
            if place < len(question.turns):
                lines.append(f'    Turn("assistant", (Part("text", {question.turns[place][1]!r}),)),')
        lines += ["]", "sample = sl.Sample(messages=tuple(turns))"]
    else:
        written = ", ".join(images) + ("," if images else "")
        lines.append(f"sample = sl.Sample(prompt={question.prompt!r}, images=({written}))")
    lines.append("inputs = vlm.encode(sample, allow_text_only=True)")
    ask = f"print(vlm.generate(inputs, max_new_tokens={question.new_tokens}))"
    if question.method == "none":
        lines.append(ask)
    else:
        lines += [f"with sl.find_method({question.method!r}).on(vlm):", f"    {ask}"]
    return "\n".join(lines) + "\n"


def _images(question: LiveQuestion) -> list[str]:
    if question.view == "without":
        return []
    if question.view == "blank":
        return [GREY] * len(question.images)
    if question.view == "another":
        return [f'"other_{number}.png"' for number in range(1, len(question.others) + 1)]
    return [f'"image_{number}.png"' for number in range(1, len(question.images) + 1)]
