"""Draws a scene with Pillow, at any size."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw

from sightline.zoo.world import GRID, Scene, SceneObject

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "green": (42, 157, 70),
    "blue": (45, 85, 215),
    "yellow": (235, 200, 35),
    "purple": (140, 55, 175),
}
SUPERSAMPLE = 4

Point = tuple[float, float]


def _polygon(shape: str) -> list[Point]:
    """Corners of a shape inside the square from (-1, -1) to (1, 1), y downwards."""
    if shape == "square":
        return [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]
    if shape == "triangle":
        return [(0.0, -0.95), (0.98, 0.85), (-0.98, 0.85)]
    if shape == "cross":
        arm = 0.34
        quarter = [(arm, -1.0), (arm, -arm), (1.0, -arm)]
        corners: list[Point] = []
        for _ in range(4):
            corners.extend(quarter)
            quarter = [(-y, x) for x, y in quarter]
        return corners
    if shape == "star":
        radii = (1.0, 0.42)
        return [
            (radii[step % 2] * math.sin(step * math.pi / 5), -radii[step % 2] * math.cos(step * math.pi / 5))
            for step in range(10)
        ]
    raise ValueError(f"unknown shape {shape!r}")


def _place(item: SceneObject, cell: float) -> tuple[float, float, float]:
    """Centre (x, y) and radius of an item, in the units of `cell`, the side of a grid cell."""
    return (item.column + 0.5 + item.shift[0]) * cell, (item.row + 0.5 + item.shift[1]) * cell, item.scale * cell / 2


def outline(item: SceneObject, size: int = 48) -> list[Point]:
    """Corners (x, y) of an item in a picture of size x size pixels, y downwards; a circle has 24."""
    x, y, radius = _place(item, size / GRID)
    if item.kind.shape == "circle":
        angles = [step * math.pi / 12 for step in range(24)]
        return [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]
    return [(x + right * radius, y + down * radius) for right, down in _polygon(item.kind.shape)]


def _draw_item(draw: ImageDraw.ImageDraw, item: SceneObject, cell: float) -> None:
    centre_x, centre_y, radius = _place(item, cell)
    red, green, blue = (min(255, round(channel * item.shade)) for channel in PALETTE[item.kind.colour])
    fill = (red, green, blue)
    if item.kind.shape == "circle":
        draw.ellipse((centre_x - radius, centre_y - radius, centre_x + radius, centre_y + radius), fill=fill)
        return
    draw.polygon([(centre_x + x * radius, centre_y + y * radius) for x, y in _polygon(item.kind.shape)], fill=fill)


def render(scene: Scene, size: int = 48) -> Image.Image:
    """The scene as an RGB picture of size x size pixels, the same bytes each time."""
    if size < 1:
        raise ValueError(f"a picture needs at least one pixel, not {size}")
    large = size * SUPERSAMPLE
    image = Image.new("RGB", (large, large), scene.background)
    draw = ImageDraw.Draw(image)
    for item in scene.items:
        _draw_item(draw, item, large / GRID)
    return image.resize((size, size), Image.Resampling.BOX)
