"""Tables of docs/scale.md, or another page, that benchmarks write, each between its own two marks."""

import pathlib

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "scale.md"


def write(name: str, table: str, page: pathlib.Path = PAGE) -> None:
  """Puts a table where the page has `<!-- NAME -->` and `<!-- end of NAME -->`."""
  begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
  before, _, rest = page.read_text().partition(begin)
  _, _, after = rest.partition(end)
  page.write_text(f"{before}{begin}\n\n{table}\n\n{end}{after}")
