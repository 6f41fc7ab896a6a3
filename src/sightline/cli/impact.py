"""sightline impact: what a model would do without each token, at each layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sightline.cli.impact_values import PARSE, impact_requests
from sightline.cli.options import Images, known_model, out_option, output_options, sample_options
from sightline.cli.output import Output
from sightline.cli.settings_options import settings_options
from sightline.data.picture_names import picture_name
from sightline.jobs.impact_settings import STUDY, ImpactSettings
from sightline.knockout.study_settings import StudySettings
from sightline.runs.folder import fresh_folder

EPILOG = """\b
Examples:
  sightline impact tiny-llava --image scene.png --prompt "is there a red circle in the image ?" --mode causal
  sightline impact tiny-llava --image scene.png --prompt "is there a red circle ?" --mode vision --block 2
  sightline impact Qwen/Qwen2.5-7B-Instruct --prompt "Is the sky blue?" --compare Qwen/Qwen2.5-VL-7B-Instruct
  sightline impact llava-hf/llava-1.5-7b-hf --config prompts.yaml --out runs/impact"""


@click.command("impact", epilog=EPILOG)
@click.argument("model", callback=known_model)
@sample_options
@settings_options(StudySettings, parse=PARSE)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="A YAML file of prompts and settings.")
@click.option("--compare", metavar="MODEL", help="Align with this model on the same prompt.")
@out_option
@settings_options(ImpactSettings)
@output_options
def command(
    is_json: bool,
    model: str,
    images: Images,
    prompt: str | None,
    config: Path | None,
    compare: str | None,
    out: Path | None,
    **fields: Any,
) -> None:
    """What MODEL (a bundled name, a hub name or a folder) would do without each token, at each layer.

    Writes CSV, JSON and figures into the run folder: runs/impact-... unless --out is given.
    """
    output = Output(is_json)
    context, typed = click.get_current_context(), click.core.ParameterSource.COMMANDLINE
    given = {name: fields[name] for name in STUDY if context.get_parameter_source(name) is typed and name != "seed"}
    with output.guarded():
        if config is None:
            StudySettings(**given)  # a wrong one is refused before anything is loaded
        settings = ImpactSettings(**{name: fields[name] for name in fields.keys() - set(STUDY) | {"seed"}})
        from sightline.jobs.impact import run_impact
        from sightline.jobs.impact_plan import ImpactPlan
        from sightline.jobs.models import model_sources

        requests = impact_requests(config, images, prompt, given, settings.seed)
        other = None if compare is None else model_sources(compare, settings)[0]
        plan = ImpactPlan(model_sources(model, settings)[0], requests, settings, other, config is None)
    named = config or Path(*map(picture_name, images[:1] or ("text",)))
    folder = out or fresh_folder(f"impact-{named.stem}")
    with output.job(folder, "prompts") as on_progress:
        found = run_impact(plan, folder, on_progress)
    output.sections([] if is_json else found.sections())
    output.document(found.to_dict())
    output.note(f"Kept in {folder}: {plan.files(folder)}.")
