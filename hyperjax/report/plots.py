"""Pictures as SVG inside the page: legible in black and white, light and dark.

Lines differ in dash and marker, bars in hatch, besides their colours. Colours are
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
_HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++", "ooo", "---")
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
  "hatch.linewidth": 0.8,
  "legend.frameon": False,
  "svg.fonttype": "none",  # text stays text
  "text.color": _INK,
  "xtick.color": _INK,
  "ytick.color": _INK,
}
Series = Mapping[str, Sequence[tuple[float, float]]]


def dots(
  found: Mapping[str, Mapping[str, Score]], names: Sequence[str], unit: str
) -> str:
  """A row for each name, with a mark and its interval for each label."""
  # A line for each mark of a run, and a gap between runs.
  places: dict[tuple[str, str], float] = {}
  y, middles, edges = 0.0, [], []
  for name in names:
    own = [label for label in found if name in found[label]]
    places |= {(name, label): y + i for i, label in enumerate(own)}
    middles.append(y + (len(own) - 1) / 2)
    y += len(own) + 0.6
    edges.append(y - 0.8)
  with _figure(7.2, 0.8 + 0.15 * len(found) + 0.17 * y) as (figure, save):
    axis = figure.subplots()
    for i, (label, own) in enumerate(found.items()):
      _marks(axis, i, label, {places[x, label]: own[x] for x in own})
    for edge in edges[:-1]:
      axis.axhline(edge, color=_FAINT, linewidth=0.5)
    axis.set_yticks(middles, [_wrapped(name) for name in names])
    axis.set_ylim(edges[-1], -0.8)
    axis.tick_params(axis="y", length=0)
    axis.set_xlim(-3, 103)
    axis.set_xlabel(unit)
    axis.grid(axis="x")
    axis.set_axisbelow(True)
    figure.legend(loc="outside upper left", ncols=_num_columns(found))
    return save()


def _marks(
  axis: Any, number: int, label: str, own: Mapping[float, Score]
) -> None:
  """The marks of one control by their height; those of the first are filled."""
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
    if score.low is not None and score.high is not None:
      axis.plot([score.low, score.high], [y, y], color=colour, linewidth=1.2)


def bars(
  found: Mapping[str, Mapping[str, Score]], names: Sequence[str], unit: str
) -> str:
  """A bar with its interval for each label and each name that has it."""
  count = sum(map(len, found.values()))
  with _figure(7.2, 0.9 + 0.3 * count + 0.25 * len(found)) as (figure, save):
    axis = figure.subplots()
    y, ticks = 0.0, []
    for label, own in found.items():
      places = []
      for name, score in own.items():
        _bar(axis, y, score, names.index(name))
        places.append(y)
        y += 1
      ticks.append((sum(places) / len(places), label))
      y += 0.7
    axis.set_yticks([at for at, _ in ticks], [_wrapped(x) for _, x in ticks])
    axis.invert_yaxis()
    axis.tick_params(axis="y", length=0)
    axis.set_xlim(0, 116)
    axis.set_xticks(range(0, 101, 20))
    axis.set_xlabel(unit)
    axis.grid(axis="x")
    axis.set_axisbelow(True)
    if len(names) > 1:
      _legend_of_bars(figure, names)
    return save()


def _bar(axis: Any, y: float, found: Score, index: int) -> None:
  errors = None
  end = found.value
  if found.low is not None and found.high is not None:
    errors = [
      [max(0.0, found.value - found.low)],
      [max(0.0, found.high - found.value)],
    ]
    end = max(end, found.high)
  axis.barh(
    y,
    found.value,
    height=0.8,
    xerr=errors,
    color=_COLOURS[index % len(_COLOURS)],
    edgecolor=_INK,
    linewidth=0.8,
    hatch=_HATCHES[index % len(_HATCHES)],
    error_kw={"ecolor": _INK, "capsize": 3, "elinewidth": 1.2},
  )
  axis.text(end + 1.5, y, f"{found.value:.1f}", va="center", ha="left")


def _legend_of_bars(figure: Any, names: Sequence[str]) -> None:
  from matplotlib import patches  # slow to import

  handles = [
    patches.Patch(
      facecolor=_COLOURS[i % len(_COLOURS)],
      edgecolor=_INK,
      hatch=_HATCHES[i % len(_HATCHES)],
      label=name,
    )
    for i, name in enumerate(names)
  ]
  figure.legend(
    handles=handles, loc="outside upper left", ncols=_num_columns(names)
  )


def _num_columns(names: Iterable[str]) -> int:
  """Of a legend: as many as names of this length leave room for."""
  return 2 if max(map(len, names)) <= 36 else 1


def lines(
  title: str,
  series: Series,
  x_label: str,
  y_label: str,
  *,
  caption: str,
  files: Sequence[str],
  bounds: Mapping[str, Sequence[Score]] | None = None,
  is_percent: bool = False,
  is_log: bool = False,
  ticks: Sequence[float] = (),
) -> Plot:
  """Lines that differ in dash and marker, with whiskers where given.

  A logarithmic scale is for what differs by more than a factor of ten. `ticks` are
  the only values that x has, where there are few.
  """
  from matplotlib import ticker  # slow to import

  legend = len(series) / _num_columns(series) if len(series) > 1 else 0
  with _figure(7.2, 3.6 + 0.22 * legend) as (figure, save):
    axis = figure.subplots()
    for i, (name, points) in enumerate(series.items()):
      x, y = zip(*points, strict=True)
      style = {
        "color": _COLOURS[i % len(_COLOURS)],
        # Where colours begin anew, they do with other dashes.
        "linestyle": _DASHES[(i + i // len(_COLOURS)) % len(_DASHES)],
        "marker": _MARKERS[i % len(_MARKERS)],
        "markevery": max(1, len(x) // 12),
        "markersize": 5.5,
        "markerfacecolor": _PAPER,
        "linewidth": 1.7,
        "label": name,
      }
      axis.plot(x, y, **style)
      if bounds is not None:
        places = _beside(x, i - (len(series) - 1) / 2, ticks)
        _whiskers(axis, places, bounds[name], style["color"])
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    axis.grid()
    axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    if ticks:
      _tick(axis, ticks)
    if is_percent:
      axis.set_ylim(-4, 104)
    if is_log and _spans_decades(series):
      axis.set_yscale("log")
    if len(series) > 1:
      figure.legend(
        loc="outside upper left", ncols=_num_columns(series), handlelength=4
      )
    svg = save()
  return Plot(title, svg, _said(series), caption, files)


def _tick(axis: Any, ticks: Sequence[float]) -> None:
  """An x axis with these values alone; those that double lie equally far apart."""
  from matplotlib import ticker  # slow to import

  if _is_doubling(ticks):
    axis.set_xscale("log", base=2)
  axis.set_xticks(ticks, [f"{x:g}" for x in ticks])
  axis.xaxis.set_minor_locator(ticker.NullLocator())


def _is_doubling(ticks: Sequence[float]) -> bool:
  return bool(ticks) and 0 < 4 * min(ticks) <= max(ticks)


def _beside(
  x: Sequence[float], place: float, ticks: Sequence[float]
) -> list[float]:
  """Where whiskers of one line are drawn: beside, not upon, those of another."""
  if _is_doubling(ticks):
    return [own * 2 ** (0.05 * place) for own in x]
  width = max(x) - min(x)
  return [own + 0.008 * width * place for own in x]


def _spans_decades(series: Series) -> bool:
  values = [y for own in series.values() for _, y in own if math.isfinite(y)]
  return bool(values) and 0 < 10 * min(values) < max(values)


def _whiskers(
  axis: Any, x: Sequence[float], found: Sequence[Score], colour: str
) -> None:
  for at, score in zip(x, found, strict=True):
    if score.low is not None and score.high is not None:
      around = [[score.value - score.low], [score.high - score.value]]
      axis.errorbar(
        at, score.value, around, color=colour, capsize=4, linewidth=1.2
      )


def _said(series: Series) -> str:
  """Where each line begins and ends."""
  return "; ".join(
    f"{name}: {points[0][1]:.4g} at {points[0][0]:g}, "
    f"{points[-1][1]:.4g} at {points[-1][0]:g}"
    for name, points in series.items()
  )


def _wrapped(label: str) -> str:
  """In lines of some 26 characters."""
  return "\n".join(textwrap.wrap(label, 26))


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
