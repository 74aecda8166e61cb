"""Pictures as SVG inside the page: legible in black and white, light and dark.

Lines differ in dash and marker besides their colours. Colours are
names that the page's style gives values to, since a dark page needs others.
"""

import contextlib
import io
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from hyperjax.report.document import Plot, Score

# Drawn in these, which nothing else uses, and replaced by the page's own.
_INK, _PAPER, _FAINT = "#010101", "#fefefe", "#9a9a9b"
_COLOURS = ("#0172b2", "#d55e01", "#019e73", "#cc79a7", "#56b4e9", "#e69f01")
_NAMES = {_INK: "currentColor", _PAPER: "var(--paper)", _FAINT: "var(--faint)"}
_NAMES |= {x: f"var(--series-{i})" for i, x in enumerate(_COLOURS)}
_MARKERS = ("o", "s", "^", "D", "v", "x", "P", "*")
_DASHES: tuple[Any, ...] = (
  "-",
  (0, (5, 2)),
  (0, (1.5, 1.5)),
  (0, (6, 2, 1.5, 2)),
  (0, (9, 3)),
  (0, (3, 1, 1, 1, 1, 1)),
)
_STYLE = {
  "axes.edgecolor": _INK,
  "axes.facecolor": "none",
  "axes.labelcolor": _INK,
  "axes.spines.right": False,
  "axes.spines.top": False,
  "axes.titlecolor": _INK,
  "axes.titlesize": 11,
  "font.family": ["sans-serif"],
  "font.size": 10,
  "grid.color": _FAINT,
  "grid.linewidth": 0.5,
  "legend.frameon": False,
  "svg.fonttype": "none",  # text stays text
  "text.color": _INK,
  "xtick.color": _INK,
  "ytick.color": _INK,
}
Series = Mapping[str, Sequence[tuple[float, float | Score]]]


def dots(
  rows: Mapping[str, Mapping[str, Score]], marks: Sequence[str], unit: str
) -> str:
  """In each row a mark with its interval and number for each score it has."""
  # A line for each mark, as many as the label has at least; a gap between rows.
  labels = [textwrap.wrap(row, 26) for row in rows]
  lines: dict[tuple[str, str], float] = {}
  y, middles, edges = 0.0, [], []
  for (row, own), label in zip(rows.items(), labels, strict=True):
    height = max(len(own), len(label))
    start = y + (height - len(own)) / 2
    lines |= {(row, mark): start + i for i, mark in enumerate(own)}
    middles.append(y + (height - 1) / 2)
    y += height + 0.6
    edges.append(y - 0.8)
  with _figure(7.2, 0.8 + 0.15 * len(marks) + 0.17 * y) as (figure, save):
    axis = figure.subplots()
    for i, mark in enumerate(marks):
      own = {lines[x, mark]: rows[x][mark] for x in rows if mark in rows[x]}
      _marks(axis, i, mark, own)
    for edge in edges[:-1]:
      axis.axhline(edge, color=_FAINT, linewidth=0.5)
    axis.set_yticks(middles, ["\n".join(x) for x in labels])
    axis.set_ylim(edges[-1], -0.8)
    axis.tick_params(axis="y", length=0)
    axis.set_xlim(-3, 110)
    axis.set_xticks(range(0, 101, 20))
    axis.set_xlabel(unit)
    axis.grid(axis="x")
    axis.set_axisbelow(True)
    _legend(figure, marks)
    return save()


def _marks(
  axis: Any, number: int, label: str, own: Mapping[float, Score]
) -> None:
  """Scores of one kind by their height; the marks of the first are filled."""
  colour = _COLOURS[number % len(_COLOURS)]
  axis.plot(
    [score.value for score in own.values()],
    [*own],
    color=colour,
    marker=_MARKERS[number % len(_MARKERS)],
    markersize=6,
    markerfacecolor=_PAPER if number else colour,
    linestyle="",
    label=label,
  )
  for y, score in own.items():
    ends = [score.value if x is None else x for x in (score.low, score.high)]
    axis.plot(ends, [y, y], color=colour, linewidth=1.2)
    right = max(score.value, *ends) + 2
    axis.text(right, y, score.text, va="center", ha="left", fontsize=8)


def _legend(figure: Any, names: Iterable[str], **style: Any) -> None:
  """Above the axes, where there is more than one; in one column if names are long."""
  names = [*names]
  if len(names) > 1:
    columns = 2 if max(map(len, names)) <= 36 else 1
    figure.legend(loc="outside upper left", ncols=columns, **style)


def lines(
  title: str,
  series: Series,
  x_label: str,
  y_label: str,
  *,
  caption: str,
  files: Sequence[str],
  is_percent: bool = False,
  is_log: bool = False,
  ticks: Sequence[float] = (),
) -> Plot:
  """Lines that differ in dash and marker, with the whiskers of scores.

  A logarithmic scale is for what differs by more than a factor of ten. `ticks` are
  the only values that x has, where there are few.
  """
  from matplotlib import ticker  # slow to import

  with _figure(7.2, 3.6 + 0.13 * len(series)) as (figure, save):
    axis = figure.subplots()
    values = {
      name: [(x, y.value if isinstance(y, Score) else y) for x, y in points]
      for name, points in series.items()
    }
    for i, (name, points) in enumerate(values.items()):
      line = axis.plot(*zip(*points, strict=True), label=name, **_line(i))
      line[0].set_markevery(max(1, len(points) // 12))
      _whiskers(figure, axis, series[name], i - (len(series) - 1) / 2, i)
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    axis.grid()
    axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    if ticks:
      _tick(axis, ticks)
    if is_percent:
      axis.set_ylim(-4, 104)
    if is_log and _spans_decades(values):
      axis.set_yscale("log")
    _legend(figure, series, handlelength=4)
    svg = save()
  said = [
    f"{name}: {points[0][1]:.4g} at {points[0][0]:g}, "
    f"{points[-1][1]:.4g} at {points[-1][0]:g}"
    for name, points in values.items()
  ]
  return Plot(title, svg, "; ".join(said), caption, files)


def _line(number: int) -> dict[str, Any]:
  """How a line looks; where colours begin anew, they do with other dashes."""
  dash = (number + number // len(_COLOURS)) % len(_DASHES)
  return {
    "color": _COLOURS[number % len(_COLOURS)],
    "linestyle": _DASHES[dash],
    "marker": _MARKERS[number % len(_MARKERS)],
    "markersize": 5.5,
    "markerfacecolor": _PAPER,
    "linewidth": 1.7,
  }


def _whiskers(
  figure: Any,
  axis: Any,
  points: Sequence[tuple[float, float | Score]],
  place: float,
  number: int,
) -> None:
  """The intervals of a line's scores, drawn beside those of the other lines."""
  from matplotlib import transforms  # slow to import

  beside = transforms.ScaledTranslation(0.1 * place, 0, figure.dpi_scale_trans)
  for x, own in points:
    if isinstance(own, Score) and own.low is not None and own.high is not None:
      axis.errorbar(
        x,
        own.value,
        [[own.value - own.low], [own.high - own.value]],
        color=_line(number)["color"],
        capsize=4,
        linewidth=1.2,
        transform=axis.transData + beside,
      )


def _tick(axis: Any, ticks: Sequence[float]) -> None:
  """An x axis with these values alone; those that double lie equally far apart."""
  from matplotlib import ticker  # slow to import

  if 0 < 4 * min(ticks) <= max(ticks):
    axis.set_xscale("log", base=2)
  axis.set_xticks(ticks, [f"{x:g}" for x in ticks])
  axis.xaxis.set_minor_locator(ticker.NullLocator())


def _spans_decades(
  series: Mapping[str, Sequence[tuple[float, float]]],
) -> bool:
  values = [y for own in series.values() for _, y in own if math.isfinite(y)]
  return bool(values) and 0 < 10 * min(values) < max(values)


@contextlib.contextmanager
def _figure(
  width: float, height: float
) -> Iterator[tuple[Any, Callable[[], str]]]:
  """A figure and what makes SVG of it, under our style alone."""
  from matplotlib import figure, style  # slow to import

  with style.context(["default", _STYLE]):
    own = figure.Figure((width, height), layout="constrained", facecolor="none")
    yield own, lambda: _svg(own)


def _svg(figure: Any) -> str:
  """The same bytes for the same picture, to stand inside HTML."""
  import matplotlib

  buffer = io.StringIO()
  with matplotlib.rc_context({"svg.hashsalt": "hyperjax"}):
    figure.savefig(buffer, format="svg", metadata={"Date": None})
  svg = buffer.getvalue()
  svg = svg[svg.index("<svg") :]
  svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
  for drawn, named in _NAMES.items():
    svg = svg.replace(drawn, named)
  return svg
