"""A page of one file: HTML that asks nothing of the network; fit for the night, print and screen readers."""

from html import escape
from pathlib import Path

_STYLE = Path(__file__).with_suffix(".css")


def page(title, kind, sections, parts):
    """Return a page.

    Parameters
    ----------
    title : str
    kind : str | None
        Said beside the title, such as "simulated recording".
    sections : list of (str, str)
        Heading and HTML.
    parts : list of str
        HTML above the first section.

    Returns
    -------
    html : str
        The policy in its head forbids every request, so that nothing of a night leaves the machine.
    """
    names = [(f"part-{k}", heading, content) for k, (heading, content) in enumerate(sections, 1)]
    links = "".join(f'<li><a href="#{name}">{escape(heading)}</a></li>' for name, heading, _ in names)
    body = "".join(
        f'<section aria-labelledby="{name}"><h2 id="{name}">{escape(heading)}</h2>{content}</section>\n'
        for name, heading, content in names
    )
    style = _STYLE.read_text(encoding="utf-8")
    shown = escape(title if kind is None else f"{title} ({kind})")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; img-src data:\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{shown}</title>\n<style>{style}</style></head>\n<body>\n"
        '<a class="skip" href="#content">To the content</a>\n'
        f'<header><h1>{shown}</h1></header>\n<nav aria-label="Sections"><ul>{links}</ul></nav>\n'
        f'<main id="content">\n{"".join(parts)}\n{body}</main>\n</body></html>\n'
    )


def paragraph(text, kind=None):
    """Return a paragraph of plain text; `kind`: "note", "soft" or "bad"."""
    return f"<p{'' if kind is None else f' class={kind!r}'}>{escape(text)}</p>\n"


def bullets(texts):
    """Return a list of plain texts."""
    return "<ul>" + "".join(f"<li>{escape(str(text))}</li>" for text in texts) + "</ul>\n"


def figure(svg, what, caption="", narrow=False):
    """Return a figure.

    Parameters
    ----------
    svg : str
        Of `utils.plots.session`.
    what : str
        What it shows, for who cannot see it.
    caption : str
    narrow : bool
        Two of them fit side by side.
    """
    words = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    look = ' class="narrow"' if narrow else ""
    return (
        f'<figure{look}><div role="img" aria-label="{escape(what, quote=True)}">{svg}</div>{words}</figure>\n'
    )


def table(header, rows, caption=""):
    """Return a table of plain texts and numbers; the first column names the row."""
    numeric = [
        all(isinstance(row[k], int | float) for row in rows) and bool(rows) for k in range(len(header))
    ]
    head = "".join(
        f'<th scope="col"{_number(number)}>{escape(str(name))}</th>'
        for name, number in zip(header, numeric, strict=True)
    )
    lines = []
    for row in rows:
        cells = [f'<th scope="row">{escape(_shown(row[0]))}</th>']
        cells += [
            f"<td{_number(number)}>{escape(_shown(value))}</td>"
            for value, number in zip(row[1:], numeric[1:], strict=True)
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    # beside the table, since a caption within is no wider than the table
    said = paragraph(caption, "soft") if caption else ""
    return (
        f'{said}<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>\n"
    )


def details(summary, text):
    """Return plain text that is shown on demand."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>\n"


def _number(number):
    return ' class="number"' if number else ""


def _shown(value):
    return f"{value:.1f}" if isinstance(value, float) else str(value)
