"""A page as one HTML file that needs no other, and as Markdown: the templates."""

import html
import pathlib
import re
from typing import NamedTuple

import jinja2

from hyperjax.report.document import Cell, Finding, Number, Page, Plot, Score

_FOLDER = pathlib.Path(__file__).parent / "templates"


def to_html(page: Page) -> str:
  """The whole file: style and script are inside, nothing is fetched."""
  return _rendered("page.html.j2", page)


def to_markdown(page: Page) -> str:
  """Findings and tables; pictures and predictions are on the page alone."""
  return _rendered("page.md.j2", page).rstrip() + "\n"


def _rendered(template: str, page: Page) -> str:
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER),
    autoescape=lambda name: name != "page.md.j2",
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  )
  environment.filters.update(
    breakable=_breakable,
    kind=lambda part: type(part).__name__.lower(),
    picture=_picture,
    plain=_plain,
    shown=_shown,
  )
  return environment.get_template(template).render(page=page)


class Shown(NamedTuple):
  """What both templates write of a cell."""

  mark: str
  text: str
  bounds: str = ""
  value: float | None = None  # by which it sorts


def _shown(cell: Cell) -> Shown:
  if isinstance(cell, Finding):
    return _shown(cell.gain or "")._replace(mark=cell.mark)
  if isinstance(cell, Number | Score):
    return Shown("", cell.text, cell.bounds, cell.value)
  return Shown("", "–" if cell is None else cell)


def _breakable(name: str) -> str:
  """HTML that breaks where a name is joined: no column is wider than it must."""
  return re.sub("([_/])", r"\1<wbr>", html.escape(name))


def _picture(plot: Plot, prefix: str) -> str:
  """Its SVG with the text that stands for it, and names not met elsewhere."""
  svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", plot.svg)
  alt = html.escape(f"{plot.title}. {plot.alt}")
  return svg.replace("<svg ", f'<svg role="img" aria-label="{alt}" ', 1)


def _plain(text: str) -> str:
  """One line, without what Markdown or HTML would take for its own."""
  text = html.escape(" ".join(text.split()), quote=False)
  return re.sub(r"([\\`*_|\[\]])", r"\\\1", text)
