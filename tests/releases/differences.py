"""Where a release of Transformers disagrees with itself: tests that meet it are expected to fail there."""

from __future__ import annotations

from dataclasses import dataclass

from sightline.errors import ModelError


@dataclass(frozen=True)
class Difference:
    """A fault of Transformers itself.

    Attributes:
        first, last: the releases that have it.
        tests: how the names of the tests begin that meet it.
        raises: what they end with.
        why: the fault.
    """

    first: tuple[int, int]
    last: tuple[int, int]
    tests: tuple[str, ...]
    raises: type[Exception] | tuple[type[Exception], ...]
    why: str


CAPPED = ("gemma2", "paligemma2")
"""Families whose scores are capped before the softmax."""

COPIES_TEST = "test_copies_by_the_untouched_model_are_its_answer"
"""The test of beams' and several sequences' images; where it fails, no method is held to them either."""

PIECES_TEST = "test_pieces_by_the_untouched_model_are_its_answer"
"""The test of prompts in pieces; as for copies."""


ATTENTION = ("localize", "rollout", "relevancy", "gradient", "heads", "patch")
"""Readings that look at attention, or run several rows."""


def of_readings(family: str, *kinds: str) -> tuple[str, ...]:
    """The tests of readings on a family, by default of all, as of one whose own forward fails."""
    kinds = kinds or ("lens", *ATTENTION, "direction", "tower", "registers")
    test = "test_a_reading_is_a_figure_that_a_plain_pass_confirms_or_a_sentence"
    return tuple(f"{test}[{kind}-{family}]" for kind in kinds)


DIFFERENCES = (
    Difference(
        first=(5, 24),
        last=(5, 24),
        tests=(
            "test_decoding_rows_equal_eager[llama4-",
            "test_the_logits_depend_on_the_attention_that_was_found[llama4]",
            "test_maps_equal_whole_passes_on_every_family[llama4]",
            "test_windows_rows_within_and_padding[llama4]",
            "test_class_tokens_are_no_patches_wherever_they_stand[llama4-",
            "test_similarity_is_the_plain_formula[llama4]",
            *of_readings("llama4"),
        ),
        raises=(AttributeError, ModelError),
        why="llama4's forward reads image_outputs from an output that has none",
    ),
    Difference(
        first=(5, 17),
        last=(5, 20),
        tests=(
            *(f"test_prompt_rows_and_groups_equal_eager[{family}-sdpa-" for family in CAPPED),
            *(f"test_decoding_rows_equal_eager[{family}-" for family in CAPPED),
            "test_equals_the_plain_formula[paligemma2-",
            "test_weights_equal_the_formula[paligemma2-",
            "test_equals_the_equations[paligemma2-",
            *(f"test_maps_equal_whole_passes_on_every_family[{family}]" for family in CAPPED),
            "test_windows_rows_within_and_padding[paligemma2]",
        ),
        raises=AssertionError,
        why="sdpa leaves out the cap on attention scores that eager has; later releases refuse it",
    ),
    Difference(
        first=(5, 17),
        last=(5, 20),
        tests=(
            "test_decoding_rows_equal_eager[fuyu-",
            "test_maps_equal_whole_passes_on_every_family[fuyu]",
            *of_readings("fuyu", *ATTENTION),
        ),
        raises=Exception,
        why="Fuyu calls its image image_patches there, and its own forward miscounts them",
    ),
    Difference(
        first=(5, 17),
        last=(5, 22),
        tests=of_readings("paligemma2", "lens"),
        raises=AssertionError,
        why="PaliGemma leaves out the cap on logits that its decoder has",
    ),
    Difference(
        first=(5, 17),
        last=(5, 22),
        tests=("test_maps_equal_whole_passes_on_every_family[kosmos2]",),
        raises=AssertionError,
        why="Kosmos-2 answers otherwise under sdpa than under eager attention",
    ),
    Difference(
        first=(5, 17),
        last=(5, 19),
        tests=(
            "test_decoding_rows_equal_eager[granite4_vision-",
            "test_the_logits_depend_on_the_attention_that_was_found[granite4_vision]",
            "test_maps_equal_whole_passes_on_every_family[granite4_vision]",
            *of_readings("granite4_vision"),
        ),
        raises=RuntimeError,
        why="a small Granite Vision can't run: its query transformer keeps a width of 768 whatever its settings say",
    ),
    Difference(
        first=(5, 17),
        last=(5, 18),
        tests=("test_similarity_is_the_plain_formula[minicpmv4_6]",),
        raises=RuntimeError,
        why="MiniCPM-V's own forward views a tensor that is not contiguous",
    ),
    Difference(
        first=(5, 17),
        last=(5, 23),
        tests=("test_windows_rows_within_and_padding[llama4]",),
        raises=AssertionError,
        why="of a padded prompt Llama 4 sees other positions under sdpa than under eager attention",
    ),
    Difference(
        first=(5, 17),
        last=(5, 22),
        tests=(PIECES_TEST,),
        raises=AssertionError,
        why="`prefill_chunk_size` hands the image to the first piece alone",
    ),
    *(
        Difference(
            first=(5, first),
            last=(5, last),
            tests=(f"{COPIES_TEST}[{family}]",),
            raises=AssertionError,
            why="`generate` repeats the images of several sequences in an order that is not the prompts'",
        )
        for family, first, last in (
            ("qwen2_5_omni_thinker", 17, 17),
            ("internvl", 17, 18),
            ("idefics3", 18, 18),
            ("smolvlm", 18, 18),
            ("qwen3_5", 18, 20),
        )
    ),
)


def difference(test: str, release: str) -> Difference | None:
    """What makes the test of that name fail on that release; None where it must pass."""
    minor = tuple(int(part) for part in release.split(".")[:2])
    return next(
        (each for each in DIFFERENCES if each.first <= minor <= each.last and test.startswith(each.tests)), None
    )
