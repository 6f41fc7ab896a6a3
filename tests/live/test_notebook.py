"""`sl.app` in a notebook: the page runs beside it and shows itself in the cell; elsewhere it waits."""

from __future__ import annotations

import sys
import types
from urllib.error import URLError
from urllib.request import urlopen

import pytest

import sightline as sl
from sightline.live import app as live_app
from sightline.models.vlm import load


def test_the_page_runs_beside_a_notebook_and_shows_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell, version_info=(9, 0)))
    vlm = load("tiny-llava")
    page = sl.app(vlm)
    assert page is not None
    assert f'<iframe src="{page.address}"' in page._repr_html_()
    assert urlopen(page.address).status == 200
    page.close()
    assert not page.is_running
    assert "<iframe" not in page._repr_html_()
    with pytest.raises(URLError):
        urlopen(page.address)


def test_elsewhere_it_waits_on_its_usual_port(monkeypatch: pytest.MonkeyPatch) -> None:
    served: dict[str, object] = {}
    monkeypatch.setattr(live_app, "serve", lambda name, load, **options: served.update(options, name=name))
    assert sl.app("tiny-llava") is None
    assert served == {"name": "tiny-llava", "port": 7861, "host": "127.0.0.1", "open_browser": True}
