"""A page as one HTML file that needs no other, and as Markdown."""

import html
import pathlib
import re
from collections.abc import Sequence

from hyperjax.report.document import (
  MARKS,
  Cell,
  Example,
  Finding,
  Gap,
  Number,
  Page,
  Part,
  Plot,
  Score,
  Section,
  Table,
  Text,
)

_FOLDER = pathlib.Path(__file__).parent
_DASH = "–"
_MOST_COLUMNS = 4  # of one line; more have intervals below their numbers
_MOST_FILES = 4  # named below a part; more are folded


def to_html(page: Page) -> str:
  """The whole file: style and script are inside, nothing is fetched."""
  body = [
    f"<h1>{_escaped(page.title)}</h1>",
    f"<p>{_escaped(page.lead)}</p>",
    _contents(page.sections),
  ]
  plots = 0
  for number, section in enumerate(page.sections):
    parts = []
    for part in section.parts:
      plots += isinstance(part, Plot)
      parts.append(_part(part, f"plot{plots}"))
    body.append(
      f'<section id="s{number}">\n<h2>{_escaped(section.title)}</h2>\n'
      + "\n".join(parts)
      + "\n</section>"
    )
  style = (_FOLDER / "page.css").read_text()
  script = (_FOLDER / "page.js").read_text()
  return (
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    '<meta name="color-scheme" content="light dark">\n'
    f"<title>{_escaped(page.title)}</title>\n<style>\n{style}</style>\n"
    "</head>\n<body>\n<main>\n"
    + "\n".join(body)
    + f"\n</main>\n<script>\n{script}</script>\n</body>\n</html>\n"
  )


def _contents(sections: Sequence[Section]) -> str:
  links = " · ".join(
    f'<a href="#s{i}">{_escaped(section.title)}</a>'
    for i, section in enumerate(sections)
  )
  return f"<nav>{links}</nav>"


def _part(part: Part, plot_id: str) -> str:
  if isinstance(part, Text):
    return f"<p>{_escaped(part.text)}</p>"
  if isinstance(part, Finding):
    kind = {True: "yes", False: "no", None: "open"}[part.holds]
    return (
      f'<p class="finding {kind}"><span class="mark" aria-hidden="true">'
      f"{MARKS[part.holds]}</span> <strong>{_escaped(part.claim)}:</strong> "
      f"{_escaped(part.evidence)}</p>"
    )
  if isinstance(part, Gap):
    return f'<p class="gap">Missing: {_escaped(part.text)}</p>'
  if isinstance(part, Table):
    return _table(part)
  if isinstance(part, Plot):
    return _plot(part, plot_id)
  return _example(part)


def _table(table: Table) -> str:
  head = "".join(map(_head, table.head))
  wide = ' class="wide"' if len(table.head) > _MOST_COLUMNS else ""
  rows = "\n".join(
    "<tr>" + "".join(map(_cell, row)) + "</tr>" for row in table.rows
  )
  inside = (
    f'<div class="scroll"><table{wide}>\n<thead><tr>{head}</tr></thead>\n'
    f"<tbody>\n{rows}\n</tbody>\n</table></div>\n"
    + _caption(table.caption, table.files)
  )
  if table.is_folded:
    summary = f"{table.title} ({len(table.rows):,} rows)"
    return (
      f"<details><summary>{_escaped(summary)}</summary>\n{inside}</details>"
    )
  return f"<h3>{_escaped(table.title)}</h3>\n{inside}"


def _head(name: str) -> str:
  """Breaks where a name is joined, so that a column is no wider than it must."""
  text = re.sub("([_/])", r"\1<wbr>", _escaped(name))
  return f'<th scope="col">{text}</th>'


def _cell(cell: Cell) -> str:
  if isinstance(cell, Finding):
    mark = f'<span class="mark">{MARKS[cell.holds]}</span>'
    if cell.gain is None:
      return f"<td>{mark}</td>"
    value = cell.gain.value
    return f'<td class="number" data-value="{value!r}">{mark} {_with_bounds(str(cell.gain))}</td>'
  if isinstance(cell, Score):
    return f'<td class="number" data-value="{cell.value!r}">{_with_bounds(str(cell))}</td>'
  if isinstance(cell, Number):
    value = (
      _with_bounds(cell.text) if " [" in cell.text else _escaped(cell.text)
    )
    return f'<td class="number" data-value="{cell.value!r}">{value}</td>'
  return f"<td>{_escaped(_DASH if cell is None else cell)}</td>"


def _with_bounds(text: str) -> str:
  """Such as "12.5 [10.0, 15.0]", the number before its interval."""
  mean, _, bounds = text.partition(" [")
  shown = f' <span class="bounds">[{_escaped(bounds)}</span>' if bounds else ""
  return f"<b>{_escaped(mean)}</b>{shown}"


def _plot(plot: Plot, plot_id: str) -> str:
  alt = _escaped(f"{plot.title}. {plot.alt}")
  svg = with_own_ids(plot.svg, plot_id)
  svg = svg.replace("<svg ", f'<svg role="img" aria-label="{alt}" ', 1)
  return (
    f"<h3>{_escaped(plot.title)}</h3>\n<figure>\n{svg}</figure>\n"
    + _caption(plot.caption, plot.files)
  )


def with_own_ids(svg: str, prefix: str) -> str:
  """A picture whose names do not meet those of others on the page."""
  svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
  svg = re.sub(r"url\(#", f"url(#{prefix}-", svg)
  return re.sub(r'href="#', f'href="#{prefix}-', svg)


def _example(example: Example) -> str:
  shown = "".join(
    f"<li>{_text(before)} <span class=arrow>→</span> {_text(after)}</li>\n"
    for before, after in example.demonstrations
  )
  lines = "".join(
    f"<dt>{_escaped(label)}</dt><dd>{_verdict(is_right)}{_text(text)}</dd>\n"
    for label, text, is_right in example.lines
  )
  demonstrations = f"<ol>\n{shown}</ol>\n" if shown else ""
  opened = "" if example.is_folded else " open"
  return (
    f"<details class=example{opened}><summary>{_escaped(example.title)}</summary>"
    f"\n{demonstrations}<dl>\n{lines}</dl>\n"
    + _caption("", example.files)
    + "</details>"
  )


def _verdict(is_right: bool | None) -> str:
  if is_right is None:
    return ""
  word = "right" if is_right else "wrong"
  return f'<span class="{word}">{MARKS[is_right]} {word}</span> '


def _text(text: str) -> str:
  return (
    f"<code>{_escaped(text)}</code>" if text.strip() else "<em>(empty)</em>"
  )


def _caption(text: str, files: Sequence[str]) -> str:
  """What a part means, and where it is from; many files are opened by the reader."""
  names = dict.fromkeys(files)
  links = ", ".join(
    f'<a href="{_link(path)}">{_escaped(path)}</a>' for path in names
  )
  if len(names) > _MOST_FILES:
    shown = f'<p class="caption">{_escaped(text)}</p>\n' if text else ""
    return (
      f'{shown}<details class="from"><summary>From {len(names)} files</summary>'
      f'<p class="caption">{links}</p></details>\n'
    )
  words = [x for x in (_escaped(text), f"From {links}." if links else "") if x]
  return f'<p class="caption">{" ".join(words)}</p>\n' if words else ""


def _link(path: str) -> str:
  from urllib import parse

  return _escaped(parse.quote(path))


def _escaped(text: str) -> str:
  return html.escape(text, quote=True)


def to_markdown(page: Page) -> str:
  """Findings and tables; pictures and predictions are on the page alone."""
  lines = [f"# {_plain(page.title)}", "", _plain(page.lead), ""]
  for section in page.sections:
    blocks = [x for x in map(_markdown, section.parts) if x]
    if blocks:
      lines += [f"## {_plain(section.title)}", ""]
      lines += [line for block in blocks for line in (*block, "")]
  return "\n".join(lines)


def _markdown(part: Part) -> list[str]:
  if isinstance(part, Text):
    return [_plain(part.text)]
  if isinstance(part, Finding):
    claim, evidence = _plain(part.claim), _plain(part.evidence)
    return [f"- {MARKS[part.holds]} **{claim}:** {evidence}"]
  if isinstance(part, Gap):
    return [f"*Missing: {_plain(part.text)}*"]
  if not isinstance(part, Table):
    return []
  lines = [
    _row(part.head),
    "|" + "---|" * len(part.head),
    *map(_row, part.rows),
    "",
    *_markdown_caption(part),
  ]
  if part.is_folded:
    return [
      *_opened(f"{part.title} ({len(part.rows):,} rows)"),
      *lines,
      *_CLOSED,
    ]
  return [f"**{_plain(part.title)}**", "", *lines]


def _markdown_caption(table: Table) -> list[str]:
  files = [*dict.fromkeys(table.files)]
  named = ", ".join(map(_plain, files))
  if len(files) > _MOST_FILES:
    start = _opened(f"From {len(files)} files")
    return [_plain(table.caption), "", *start, named, *_CLOSED]
  return [_plain(table.caption) + (f" From {named}." if named else "")]


def _opened(summary: str) -> list[str]:
  """HTML that Markdown lets through: what follows is opened by the reader."""
  return [f"<details><summary>{_escaped(summary)}</summary>", ""]


_CLOSED = ["", "</details>"]


def _row(cells: Sequence[Cell]) -> str:
  return "| " + " | ".join(_plain(_shown(cell)) for cell in cells) + " |"


def _shown(cell: Cell) -> str:
  if cell is None:
    return _DASH
  if isinstance(cell, Finding):
    return " ".join(filter(None, [MARKS[cell.holds], str(cell.gain or "")]))
  return cell.text if isinstance(cell, Number) else str(cell)


def _plain(text: str) -> str:
  """One line, without what Markdown or HTML would take for its own."""
  text = html.escape(" ".join(text.split()), quote=False)
  return re.sub(r"([\\`*_|\[\]])", r"\\\1", text)
